"""Why the solution of each graded exercise is as it is: shown after it is solved, and in the teacher's editions."""

EXPLANATIONS = {
    "1.1": (
        "|x - e|² = |x|² - 2 x·e + |e|², and only the middle term needs both: one matrix product. Both are "
        "measured from the middle of the codebook, because far from the origin the terms are large and their "
        "difference loses digits."
    ),
    "1.2": (
        "`argmin` over the axis of the codes gives one token per chunk, and of equal distances the first. NaN "
        "is smaller than nothing and would win quietly, so it is refused, like an empty codebook."
    ),
    "1.3": (
        "Lloyd's algorithm: give each point to its nearest code, then move each code to the mean of its "
        "points. A code without points has no mean, so it keeps its place. The generator makes the start "
        "repeatable."
    ),
    "1.4": (
        "`bincount` with `minlength` has a place for codes that nobody chose. The perplexity is the "
        "exponential of the entropy in nats: K codes that are used equally often give K."
    ),
    "2.1": (
        "The value is x + (q - x) = q. The bracket is detached, so the gradient of the sum at x is that of x: "
        "the identity."
    ),
    "2.2": (
        "Count and total are moving averages of how often and by what a code was chosen; the code is their "
        "quotient. The smoothing keeps it finite when the count nears 0. A revived code gets a count and the "
        "total that fits it, or the next step would throw it far away."
    ),
    "2.3": (
        "Each layer quantizes what is left over. The residual takes the step's value detached: otherwise the "
        "later layers' losses would reach x through the straight-through values as well, and cancel."
    ),
    "3.1": (
        "A ReLU stands between two linear layers, or they would be one. None stands after the last: the "
        "output may be negative."
    ),
    "3.2": (
        "When the policy acts it has codes only, so the decoder is trained on what the codes say, not on the "
        "embedding. The straight-through values carry the reconstruction's gradient back to the encoder."
    ),
    "3.3": (
        "The reconstruction teaches encoder and decoder; the commitment keeps the embeddings near the codes, "
        "and both have gradients."
    ),
    "4.1": (
        "q, k and v are split into heads, with the heads before time; the causal mask lets no token see a "
        "later one; the heads are put side by side before the last layer. Dropout happens in training alone."
    ),
    "4.2": (
        "Pre-norm: normalise, work, add. The path from input to output stays free, so gradients reach the first block."
    ),
    "4.3": (
        "Token and position embeddings are added; then the blocks, one after the other, a last norm, and the head."
    ),
    "5.1": (
        "log p comes from `log_softmax`, which stays finite where p rounds to 0. (1 - p)^gamma makes well- "
        "known codes count less; it depends on the logits, too, so it is not detached."
    ),
    "5.2": (
        "The cumulative sum is a staircase from 0 to 1; the code is the number of steps that the draw has "
        "climbed. Divided by its last step, the staircase ends at exactly 1 in spite of rounding."
    ),
    "5.3": (
        "The later layers are told the code that was drawn, not the likeliest: the second token has to fit "
        "the first one that is said. Each layer has a draw of its own."
    ),
    "5.4": (
        "One offset for each layer and code is predicted at once; `gather` picks those of the given codes, "
        "and their sum corrects the chunk."
    ),
    "6.1": (
        "A causal model sees what stands before, so each query stands after its step's tokens. A step is n + "
        "1 places long; its query is the last of them."
    ),
    "6.2": (
        "One focal loss per layer, the first with its own weight, the others together with theirs, and the "
        "weighted L1 of the corrected chunk. The parts are for the log and detached, so that the log holds no "
        "graph."
    ),
    "6.3": (
        "A chunk decided `age` decisions ago has used up age * n of its actions; those that still reach "
        "action i are averaged."
    ),
    "7.1": (
        "Each number has its own bounds over all frames. A constant number would divide by 0, so the range is "
        "clamped. Relative chunks are differences of actions and states, so these share their bounds."
    ),
    "7.2": (
        "The last window is the one whose last chunk still ends inside the episode. Before its start the "
        "first frame repeats."
    ),
    "7.3": (
        "Rows and chunks of all episodes are put one after the other, so the chunks' numbers are shifted by "
        "those before. A relative chunk is measured from the state at its first frame."
    ),
    "7.4": (
        "Every column of points is reflected, and those whose order changes in the mirror are numbered anew. "
        "The second half's episodes end later, by as many frames as the first half has."
    ),
    "8.1": (
        "`divmod` by the number of whole batches gives the epoch and the place in it; the order is a function "
        "of seed and epoch, so nothing has to be saved."
    ),
    "8.2": ("Two curves multiplied: a linear warm-up that stays at 1, and half a cosine from 1 to 0 over all steps."),
    "8.3": (
        "Decay pulls matrices towards 0; biases and norms have one axis and are left alone; frozen parameters "
        "are not given to the optimizer at all."
    ),
    "8.4": (
        "Early on the memory is short, or the average would stay at the random start; `decay` bounds it "
        "later. Buffers such as counts are copied: their average means nothing."
    ),
    "9.1": (
        "The policy lives in -1..1: normalise what goes in, unnormalise what comes out, then clamp to the "
        "environment's bounds."
    ),
    "9.2": (
        "The best coverage and the last one are both told: a policy can push the block onto the goal and off again."
    ),
    "10.1": (
        "The window is flattened name by name in the configuration's order; the chunk of the last observation "
        "is the one to do."
    ),
    "10.2": (
        "Bins are drawn at the temperature by each row's generator; the loss knows the true bin, and the "
        "offset learns what the bin leaves over, at every step of the window."
    ),
    "11.1": (
        "The goals that hold now are those of the last step. One linear layer makes a token of each; the position "
        "embeddings of the GPT tell the first goal from the second."
    ),
    "11.2": (
        "The whole part of uniform * (last - now) is 0 to last - now - 1, each equally often; 1 more, and the goal is "
        "never the frame at hand. The last frame has nothing after it, so it is its own goal."
    ),
    "11.3": (
        "`first` and `last` are looked up for the frame at hand, so a goal never comes from another episode. A fresh draw "
        "for each window and each call means that one window is trained with many goals."
    ),
    "12.1": (
        "`cartesian_prod(y, x)` lets x change fastest, as in a map that is flattened row after row; the flip puts x first. "
        "float64 keeps the middle at exactly 0."
    ),
    "12.2": (
        "A softmax over all pixels of a map gives weights that sum to 1, so the mean position lies in the image and depends "
        "smoothly on every pixel. Mean and sum are one matrix product."
    ),
    "12.3": (
        "Batch, steps and cameras become one axis for the encoder and are taken apart again after it, so every image goes "
        "through the same weights in one call. The order of the cameras is the policy's, not the observation's."
    ),
}
"""{exercise: why}."""
