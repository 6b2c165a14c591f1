// The forward pass of a trained VQ-BeT, from the observation to the chunk of actions, as vqbet_course computes it.
//
// Lessons 04 to 06 build each part. Names of weights are those of model.safetensors; a token is a vector of numbers.
"use strict";

(() => {  // its names stay its own
const SQRT_2 = Math.sqrt(2);

/** Weights (out, in), flat, times x (in), plus bias (out). */
function linear({ weight, bias }, x) {
  const size = x.length, out = new Float64Array(weight.length / size);
  for (let i = 0; i < out.length; i++) {
    let sum = bias ? bias[i] : 0;
    for (let j = 0; j < size; j++) sum += weight[i * size + j] * x[j];
    out[i] = sum;
  }
  return out;
}

/** x with mean 0 and variance 1, times weight, plus bias. */
function layerNorm({ weight, bias }, x) {
  const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
  const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
  return x.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight[i] + bias[i]);
}

/** The error function, with an error below 1e-7: its series near 0, Lentz's continued fraction beyond. */
function erf(x) {
  const z = Math.abs(x);
  if (z > 5) return Math.sign(x);
  if (z < 2.5) {
    let term = x, sum = x;
    for (let n = 1; Math.abs(term) > 1e-12; n++) {
      term *= (-x * x) / n;
      sum += term / (2 * n + 1);
    }
    return (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = z;
  for (let n = 40; n > 0; n--) fraction = z + n / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-z * z) / (Math.sqrt(Math.PI) * fraction));
}

const gelu = (x) => (x * (1 + erf(x / SQRT_2))) / 2;
const relu = (x) => Math.max(x, 0);
const sum = (x, y) => x.map((value, i) => value + y[i]);

/** The probabilities of logits. */
function softmax(logits, temperature = 1) {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const powers = logits.map((logit) => Math.exp((logit - highest) / temperature));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

/** The code that a uniform number in [0, 1) draws from softmax(logits / temperature). */
function sampleCode(logits, temperature, uniform) {
  const probabilities = softmax(logits, temperature);
  let reached = 0;
  for (let code = 0; code < probabilities.length - 1; code++) {
    reached += probabilities[code];
    if (uniform < reached) return code;
  }
  return probabilities.length - 1;
}

class Policy {
  /** data: {config, normalizer, tensors: {name: first number}, base64: all numbers, as float32}. */
  constructor({ config, normalizer, tensors, base64 }) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const numbers = new Float32Array(bytes.buffer), starts = Object.values(tensors);
    this.tensors = {};
    Object.entries(tensors).forEach(([name, start], i) => {
      this.tensors[name] = numbers.subarray(start, starts[i + 1] ?? numbers.length);
    });
    this.config = config;
    this.normalizer = normalizer;
    this.reset();
  }

  /** Forget what was observed, and decided. */
  reset() {
    this.observed = [];
    this.recent = [];  // chunks, the newest first
  }

  /** {weight, bias} of a layer. */
  layer(name) {
    return { weight: this.tensors[`${name}.weight`], bias: this.tensors[`${name}.bias`] };
  }

  /** Numbers in pixels -> -1..1 on the demonstrations. */
  normalize(name, values) {
    const { min, max } = this.normalizer[name];
    return values.map((value, i) => (2 * (value - min[i])) / (max[i] - min[i]) - 1);
  }

  /** The way back, for actions: -1..1 -> pixels, inside the board. */
  toPixels(action) {
    const { min, max } = this.normalizer.action;
    return action.map((value, i) => Math.min(Math.max(((value + 1) / 2) * (max[i] - min[i]) + min[i], 0), 512));
  }

  /** Decide anew: keypoints (16) and pusher (2) in pixels, and a uniform number for each layer of codes.
   *
   * Returns `next`, the action to execute, [x, y] in pixels; the chunk of actions and what its codes decode to, each a
   * list of them; the codes; the probabilities of each layer's codes; and `values`: logits, and the chunk as the network
   * says it, -1..1. */
  decide(keypoints, pusher, uniform) {
    const state = this.normalize("observation.state", pusher);
    const seen = [...this.normalize("observation.environment_state", keypoints), ...state];
    const token = linear(this.layer("encoder.project"), seen);
    this.observed.push(token);
    while (this.observed.length < this.config.n_obs_steps) this.observed.push(token);  // the first fills the window
    while (this.observed.length > this.config.n_obs_steps) this.observed.shift();
    const feature = this.gpt(this.observed).at(-1);
    const { codes, logits } = this.choose(feature, uniform);
    const decoded = this.decode(codes), offset = this.offset(feature, codes);
    const chunk = (parts) => parts.map((part) => sum(part, state));  // relative to where the pusher is
    const actions = chunk(decoded.map((part, i) => sum(part, offset[i])));
    const temperature = this.config.bet_softmax_temperature;
    return {
      codes,
      probabilities: logits.map((layer) => Array.from(softmax(layer, temperature))),
      next: this.toPixels(this.average(actions)),
      actions: actions.map((action) => this.toPixels(action)),
      decoded: chunk(decoded).map((action) => this.toPixels(action)),
      values: { logits: logits.map((layer) => Array.from(layer)), actions, decoded: chunk(decoded) },
    };
  }

  /** The action of now: the first of the newest chunk, or the mean of what the chunks that reach so far say of it. */
  average(chunk) {
    this.recent.unshift(chunk);
    this.recent.length = Math.min(this.recent.length, this.config.average_chunks ? chunk.length : 1);
    return this.recent.map((one, age) => one[age]).reduce(sum).map((value) => value / this.recent.length);
  }

  /** Tokens -> the GPT's outputs, one for each; a token reads itself and those before it. */
  gpt(tokens) {
    const places = this.tensors["gpt.position_embedding.weight"];
    let x = tokens.map((token, t) => {
      const embedded = linear(this.layer("gpt.token_embedding"), token);
      return embedded.map((value, i) => value + places[t * embedded.length + i]);
    });
    for (let block = 0; block < this.config.gpt_n_layer; block++) {
      const name = `gpt.blocks.${block}`;
      const mixed = this.attend(name, x.map((token) => layerNorm(this.layer(`${name}.norm_attention`), token)));
      x = x.map((token, t) => sum(token, mixed[t])).map((token) => {
        const wide = linear(this.layer(`${name}.mlp.0`), layerNorm(this.layer(`${name}.norm_mlp`), token)).map(gelu);
        return sum(token, linear(this.layer(`${name}.mlp.2`), wide));
      });
    }
    return x.map((token) => linear(this.layer("gpt.head"), layerNorm(this.layer("gpt.norm"), token)));
  }

  /** Causal attention of one block over all tokens. */
  attend(name, x) {
    const width = x[0].length, size = width / this.config.gpt_n_head;
    const qkv = x.map((token) => linear(this.layer(`${name}.attention.qkv`), token));
    return x.map((_, t) => {
      const mixed = new Float64Array(width);
      for (let from = 0; from < width; from += size) {
        const query = qkv[t].subarray(from, from + size);
        const scores = qkv.slice(0, t + 1).map((other) => {
          const key = other.subarray(width + from, width + from + size);
          return query.reduce((total, value, i) => total + value * key[i], 0) / Math.sqrt(size);
        });
        softmax(scores).forEach((share, s) => {
          for (let i = 0; i < size; i++) mixed[from + i] += share * qkv[s][2 * width + from + i];
        });
      }
      return linear(this.layer(`${name}.attention.out`), mixed);
    });
  }

  /** One code for each of two layers; the second is told which was drawn for the first. */
  choose(feature, uniform) {
    const temperature = this.config.bet_softmax_temperature;
    const first = linear(this.layer("code_predictor.primary"), feature);
    const primary = sampleCode(first, temperature, uniform[0]);
    const told = Array.from({ length: this.config.vqvae_n_embed }, (_, code) => Number(code === primary));
    const second = linear(this.layer("code_predictor.later"), [...feature, ...told]);
    return { codes: [primary, sampleCode(second, temperature, uniform[1])], logits: [first, second] };
  }

  /** Codes -> the chunk that the tokenizer decodes them to, a list of [x, y]. */
  decode(codes) {
    const width = this.config.vqvae_embedding_dim;
    const vectors = codes.map((code, layer) =>
      this.tensors[`vqvae.vq.layers.${layer}.codebook`].slice(code * width, (code + 1) * width));
    const hidden = linear(this.layer("vqvae.decoder.0"), vectors.reduce(sum)).map(relu);
    return this.pairs(linear(this.layer("vqvae.decoder.4"), linear(this.layer("vqvae.decoder.2"), hidden).map(relu)));
  }

  /** What is added to a decoded chunk: one offset for each layer's code, summed. */
  offset(feature, codes) {
    const all = linear(this.layer("offset_head.linear"), feature), size = this.config.action_chunk_size * 2;
    const parts = codes.map((code, layer) => {
      const start = (layer * this.config.vqvae_n_embed + code) * size;
      return all.slice(start, start + size);
    });
    return this.pairs(parts.reduce(sum));
  }

  /** A flat chunk as a list of [x, y]. */
  pairs(numbers) {
    return Array.from({ length: numbers.length / 2 }, (_, i) => [numbers[2 * i], numbers[2 * i + 1]]);
  }
}

globalThis.VqBet = { Policy };
})();
