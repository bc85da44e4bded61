"""PPO as this project runs it: from parameters to RLlib's configuration, and the engines that train it."""
