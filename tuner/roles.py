"""What each of PPO's parameters is for, in words, with where it comes from. Owns no values: `parameters` has those."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_PPO = "Schulman et al. 2017, 'Proximal Policy Optimization Algorithms'"
_GAE = "Schulman et al. 2016, 'High-Dimensional Continuous Control Using Generalized Advantage Estimation'"
_MATTERS = "Andrychowicz et al. 2021, 'What Matters for On-Policy Deep Actor-Critic Methods?'"
_CODE = "Engstrom et al. 2020, 'Implementation Matters in Deep Policy Gradients'"
_DETAILS = "Huang et al. 2022, 'The 37 Implementation Details of Proximal Policy Optimization'"
_LOSS = "RLlib 2.60: PPOTorchLearner.compute_loss_for_module"


@dataclass(frozen=True)
class Role:
    """A parameter's part in PPO: what it is, what raising or lowering it does and trades, and who says so."""

    text: str
    source: str


ROLES: Mapping[str, Role] = {
    "lr": Role(
        "The step size of Adam, which moves the weights of policy and value function after each minibatch. Raising it "
        "learns more from each batch, so that fewer episodes are needed, until steps overshoot: the policy then "
        "leaves the region that the batch speaks for, and the curve may collapse. Lowering it is steadier and slower. "
        "It acts together with num_epochs and minibatch_size, which say how many such steps a batch gives.",
        f"Kingma and Ba 2015, 'Adam: A Method for Stochastic Optimization', algorithm 1; {_MATTERS}, sec. 3.7",
    ),
    "lr_anneal_steps": Role(
        "Over how many environment steps lr falls in a straight line to 0; with none, it stays as it is. A falling "
        "rate learns fast at first and keeps late updates small, which guards what was reached. Too short a fall "
        "stops a run half way: at its end the rate is 0 and nothing more is learned; too long a fall is hardly one.",
        f"{_CODE}; {_DETAILS}, core detail 4; RLlib 2.60: Scheduler, updated once an iteration",
    ),
    "train_batch_size": Role(
        "How many environment steps the current policy samples before it is updated, which is one iteration; RLlib "
        "rounds up to whole rounds of fragments, and standardises the advantages over the whole batch. More steps "
        "make the gradient and the advantages less noisy, but each update costs more episodes, and fewer updates fit "
        "into the same experience. Fewer steps update sooner and more often, from noisier evidence, which a high lr "
        "turns into unstable learning.",
        f"{_PPO}, algorithm 1 (N actors times T steps); {_MATTERS}, sec. 3.5; RLlib 2.60: PPO.training_step",
    ),
    "minibatch_size": Role(
        "How many steps of the batch one gradient is computed from; an iteration takes about num_epochs x "
        "train_batch_size / minibatch_size gradient steps. Smaller minibatches give more steps, each noisier, and "
        "move the policy further on one batch; larger ones give fewer, smoother steps and less work for the machine. "
        "It cannot exceed the batch; RLlib fills the last minibatch of an epoch from the next, so that none is "
        "smaller.",
        f"{_PPO}, algorithm 1 (M); {_DETAILS}, core detail 6; RLlib 2.60: MiniBatchCyclicIterator",
    ),
    "num_epochs": Role(
        "How many times an update goes over the same batch. More epochs draw more out of each sampled step, which is "
        "what PPO's clipping was made to allow, and so need fewer episodes. The policy however moves away from the "
        "one that sampled the batch: with too many the advantages no longer describe it, the clip stops most of the "
        "gradient, and the rest fits noise.",
        f"{_PPO}, algorithm 1 (K epochs); {_MATTERS}, sec. 3.5",
    ),
    "shuffle_batch_per_epoch": Role(
        "Whether the batch is put into a new random order after each epoch. A shuffled minibatch mixes steps of many "
        "episodes, so that its gradient speaks for the whole batch; an unshuffled one holds neighbouring steps, which "
        "resemble each other, and pulls the weights its own way. RLlib shuffles after an epoch, not before it: the "
        "first epoch always goes in sampling order, and with one epoch nothing is ever shuffled.",
        f"{_MATTERS}, sec. 3.5; RLlib 2.60: MiniBatchCyclicIterator",
    ),
    "gamma": Role(
        "The discount: a reward k steps ahead counts gamma^k, so that about 1 / (1 - gamma) steps matter (100 at "
        "0.99). Raising it makes the agent look further ahead, which long episodes need, but returns then sum more "
        "chance and the value function has more to predict. Lowering it makes advantages less noisy and learning "
        "quicker, at the price of a bias: what pays off only beyond the horizon is not learned.",
        f"{_GAE}, sec. 2 and 3; {_MATTERS}, sec. 3.6",
    ),
    "lambda_": Role(
        "GAE's weight between what was measured and what the value function predicts: the advantage is the sum of the "
        "temporal-difference errors ahead, each with one more factor of gamma x lambda. At 1 it is the discounted "
        "rewards up to the end of the fragment and the prediction there, less the prediction here: little bias, much "
        "noise. At 0 it is the next error alone: little noise, but as wrong as the value function is, which at the "
        "beginning is very.",
        f"{_GAE}, eq. 16 to 18; {_PPO}, eq. 11 and 12; {_MATTERS}, sec. 3.4; RLlib 2.60: GeneralAdvantageEstimation",
    ),
    "use_critic": Role(
        "Whether the value function is trained. With it, advantages say how much better an action did than was "
        "expected in its state, which takes most of the noise out of the gradient. Without it RLlib leaves the value "
        "loss out of the total, but GAE still subtracts the output of the value network, now an untrained one: that "
        "saves the tuning of a loss and costs a useful baseline.",
        f"{_GAE}, sec. 2; {_LOSS}",
    ),
    "use_gae": Role(
        "Says that advantages come from Generalized Advantage Estimation, which needs a value function to stand for "
        "the rest of an episode that a fragment cuts off. Without it only whole episodes could be used, so that RLlib "
        "refuses False as long as fragments may cut episodes, as they do here. On RLlib's current API stack it "
        "changes nothing else: what trades bias for noise is lambda_.",
        f"{_GAE}, sec. 3; RLlib 2.60: PPOConfig.validate",
    ),
    "clip_param": Role(
        "The epsilon of PPO's objective: once an action has become 1 + epsilon times as likely as when it was sampled "
        "(or 1 - epsilon times, where it was a bad one), that step gives the policy no more gradient in this "
        "direction. Raising it lets one batch change the policy more, which is faster and riskier; lowering it makes "
        "each update more cautious, and more of them are needed. It is no hard limit, because other steps' gradients "
        "move the same weights.",
        f"{_PPO}, eq. 7 and fig. 1; {_MATTERS}, sec. 3.1",
    ),
    "vf_clip_param": Role(
        "An upper limit on a step's squared value error, in units of the return squared: RLlib clips the error "
        "itself, not, as other programs do, how far the prediction moves. Where the error is above it, the step gives "
        "the value function no gradient at all. So it has to grow with the square of the returns: too low, and large "
        "returns are never learned; very high, and it is off, and a few outliers may dominate the value loss.",
        f"{_LOSS}; the other form: {_DETAILS}, core detail 9",
    ),
    "vf_loss_coeff": Role(
        "The weight of the value function's squared error in the total loss. With shared layers it settles whose "
        "gradient shapes them: too high, and the value error drowns the policy's objective; too low, and the "
        "advantages stay poor. With separate networks Adam, which divides a gradient by its own size, makes it matter "
        "little, unless the gradient is clipped across both.",
        f"{_PPO}, eq. 9 (c1); {_LOSS}",
    ),
    "entropy_coeff": Role(
        "The weight of a bonus for the policy's entropy, that is, for keeping its actions random. Raising it keeps "
        "the agent exploring and delays the moment at which it commits itself, which helps where early luck misleads. "
        "Too high, and a policy that knows the way still acts at random, so that its mean reward stays below what it "
        "could be; at 0 only the randomness that the policy still has explores.",
        f"{_PPO}, eq. 9 (c2); {_DETAILS}, core detail 10; {_MATTERS}, sec. 3.8",
    ),
    "use_kl_loss": Role(
        "Whether the loss has a second brake beside the clip: kl_coeff times the mean divergence KL(old policy, new "
        "policy). Unlike the clip it pulls back a policy that has already gone too far. On, it makes updates more "
        "cautious and adds two parameters to tune; off, the clip alone restrains them, as in PPO's clipped form.",
        f"{_PPO}, sec. 4 and eq. 8; {_LOSS}",
    ),
    "kl_coeff": Role(
        "The weight of the KL penalty at the beginning; it acts only with use_kl_loss. After each iteration RLlib "
        "multiplies it by 1.5 where the KL of the last minibatch was above twice kl_target, and halves it where it "
        "was below half of it, so that its first value soon matters little. A high one holds the first updates back, "
        "a low one lets them run, and 0 stays 0.",
        f"{_PPO}, sec. 4 (there it is doubled and halved, outside 1.5 times the target); RLlib 2.60: "
        "PPOTorchLearner._update_module_kl_coeff",
    ),
    "kl_target": Role(
        "How far, in KL divergence, one iteration should move the policy; kl_coeff adapts itself towards it, and "
        "without use_kl_loss it does nothing. Raising it lets the penalty fade and the policy change more in each "
        "iteration; lowering it makes the penalty grow until updates are small. It trades speed for safety as "
        "clip_param does, but by how much the whole distribution moved, not one action's probability.",
        f"{_PPO}, sec. 4 (d_targ); RLlib 2.60: PPOTorchLearner._update_module_kl_coeff",
    ),
    "grad_clip": Role(
        "The greatest size of a gradient, measured as grad_clip_by says; with none, gradients are used as they are. "
        "It keeps one bad minibatch from wrecking the weights and from spoiling Adam's running averages. Too low, and "
        "nearly each gradient is cut to one size, so that its length says nothing any more; Adam, which scales its "
        "steps anyway, hides part of that.",
        f"Pascanu et al. 2013, 'On the Difficulty of Training Recurrent Neural Networks'; {_CODE}; "
        f"{_DETAILS}, core detail 11",
    ),
    "grad_clip_by": Role(
        "What grad_clip limits: the norm of all gradients as one vector (global_norm), the norm of each weight matrix "
        "and bias by itself (norm), or each single number (value). The first keeps the gradient's direction, but "
        "lets a large value error shrink the policy's share too; the second keeps the direction within each tensor "
        "only; the third bends it most. Without grad_clip it does nothing.",
        f"RLlib 2.60: clip_gradients in rllib/utils/torch_utils.py; {_DETAILS}, core detail 11",
    ),
    "num_env_runners": Role(
        "How many processes sample beside the learner; 0 samples in the trial's own process. More of them shorten the "
        "sampling where environments are slow, but each takes a CPU and, where environments are fast, costs more in "
        "messages than it saves. The batch stays as large, so that each fragment gets shorter or fewer are taken; "
        "learning itself changes only by that and by the seeds.",
        f"{_PPO}, algorithm 1 (N actors); RLlib 2.60: synchronous_parallel_sample",
    ),
    "num_envs_per_env_runner": Role(
        "How many copies of the environment a runner steps side by side, with one pass of the network for all. More "
        "copies make sampling cheaper and a batch more varied, because it mixes more episodes. The same batch then "
        "has fewer steps of each, so that episodes take more iterations and more often end in a prediction of the "
        "value function; one copy gives long, correlated stretches.",
        f"{_DETAILS}, core detail 1; {_MATTERS}, sec. 3.5; RLlib 2.60: SingleAgentEnvRunner",
    ),
    "rollout_fragment_length": Role(
        "How many steps each environment makes before its episode is cut and, there, the value function stands for "
        "the rest. Longer fragments measure more and predict less: less bias, more noise; shorter ones the reverse, "
        "and lambda_ cannot look beyond a cut. RLlib repeats fragments until the batch is full; auto is the batch "
        "divided by the number of environments, so that one fragment of each fills it.",
        f"{_PPO}, eq. 10 and 11 (T); RLlib 2.60: AlgorithmConfig.get_rollout_fragment_length",
    ),
    "fcnet_hiddens": Role(
        "The widths of the hidden layers between the observation and the heads for policy and value. Wider or more "
        "layers can express more and may learn in fewer updates, but each update takes longer, and they fit the noise "
        "of one batch more readily. Too small a network cannot express a good policy, or a value function good "
        "enough to teach it.",
        f"{_MATTERS}, sec. 3.2; RLlib 2.60: DefaultModelConfig",
    ),
    "fcnet_activation": Role(
        "The function after each hidden layer. tanh bounds its output, which keeps early policies smooth, but its "
        "gradient vanishes where it saturates; relu is cheap and does not saturate above 0, but a unit that stays "
        "below 0 learns nothing; swish, which RLlib also calls silu, is a smooth relu. With linear all layers "
        "together are one linear map, however many there are.",
        f"{_CODE}; {_MATTERS}, sec. 3.2; RLlib 2.60: DefaultModelConfig",
    ),
    "vf_share_layers": Role(
        "Whether policy and value function share their hidden layers and part only at their heads. Sharing nearly "
        "halves the work and lets either learn from what the other found, but their gradients compete in the same "
        "weights, so that vf_loss_coeff has to be tuned. Separate networks cost more and do not disturb each other; "
        "they are the usual choice for small observations.",
        f"{_DETAILS}, core detail 13; {_MATTERS}, sec. 3.2; RLlib 2.60: DefaultPPORLModule",
    ),
}
