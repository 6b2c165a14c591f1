from vqbet_course.policy import StateEncoder, VQBeTConfig, VQBeTPolicy


def build_policy(config: VQBeTConfig) -> VQBeTPolicy:
    """config -> policy, with the encoder that its observations need."""
    return VQBeTPolicy(config, StateEncoder(config.observation_sizes, config.gpt_input_dim))
