"""The budgets of the two profiles, in one place: `quick` fits an afternoon's laptop, `full` takes its time."""

#: Seconds that one cell of a lesson may take, by profile.
CELL_TIMEOUT_S: dict[str, int] = {"quick": 300, "full": 3600}

#: Training steps of each network of lesson 01's navigation toy.
NAVIGATION_STEPS: dict[str, int] = {"quick": 600, "full": 3000}

#: Training steps of each network of lesson 04, which predicts the next token.
GPT_STEPS: dict[str, int] = {"quick": 200, "full": 1500}

#: Training steps of each network of lesson 05: its toys, and its policy without a GPT.
HEADS_STEPS: dict[str, int] = {"quick": 400, "full": 3000}

#: Minutes of training in lesson 08, both stages together.
TRAIN_MINUTES: dict[str, float] = {"quick": 0.5, "full": 15.0}

#: What lesson 08 changes in the laptop's configuration when it has a minute only.
SMALL_POLICY: dict[str, int] = {"gpt_n_layer": 2, "gpt_hidden_dim": 64, "n_vqvae_training_steps": 500}

#: Episodes of each evaluation in lesson 09.
ROLLOUT_EPISODES: dict[str, int] = {"quick": 10, "full": 50}

#: Training steps of each VQ-VAE of lesson 03.
VQVAE_STEPS: dict[str, int] = {"quick": 300, "full": 4000}

#: Training steps of each policy in lesson 10, and minutes of each in its small panel.
COMPARE_STEPS: dict[str, int] = {"quick": 150, "full": 2000}
PANEL_MINUTES: dict[str, float] = {"quick": 0.1, "full": 2.0}

#: Training steps of each policy of lesson 11.
GOAL_STEPS: dict[str, int] = {"quick": 400, "full": 4000}

#: Training steps of lesson 12's encoder, which learns to tell where the T's corners are.
VISION_STEPS: dict[str, int] = {"quick": 60, "full": 600}

#: Training steps of lesson 12's policy that sees, both stages together.
SEEING_STEPS: dict[str, int] = {"quick": 12, "full": 200}

#: Training steps of lesson 15's policy, and of each round of corrections.
CORRECTION_STEPS: dict[str, int] = {"quick": 300, "full": 2000}

#: Training steps of each policy of lesson 16, both stages together.
BODY_STEPS: dict[str, int] = {"quick": 200, "full": 4000}

#: Steps of LeRobot's own VQ-BeT in lesson 13, both stages together.
LEROBOT_STEPS: dict[str, int] = {"quick": 4, "full": 100}

#: Training steps of the one variant of an ablation that lessons 02, 05 and 08 run again, and episodes to evaluate it.
ABLATION_STEPS: dict[str, int] = {"quick": 60, "full": 2000}
ABLATION_EPISODES: dict[str, int] = {"quick": 5, "full": 50}
