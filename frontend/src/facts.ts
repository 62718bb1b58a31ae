/** Written by `make schemas` from the facts of gainstage.facts: do not edit. */

/** A norm beyond reason, whatever the run's own norms were. */
export interface AbsurdNormEvidence {
  form: "absurd";
  /** log2 of the norm. */
  grad_norm_bits: JsonNumber;
  is_first_step: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** Updates of Adam, or its kin, of the size of the weights. */
export interface AdamRewriteEvidence {
  form: "adam";
  lr: JsonNumber;
  /** Usual norm of such an update over the weights' norm. */
  update_ratio: JsonNumber;
  /** Whether the record holds the norm of the update itself. */
  is_update_measured: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** Another cause that the evidence allows. */
export interface Alternative {
  cause: "init-scale" | "recurrent-gain" | "learning-rate" | "residual-growth" | "bad-data" | "numeric-op" | "dtype-overflow" | "clip-misuse" | "loss-reduction" | "grad-accumulation" | "normalization" | "unbounded-objective" | "optimizer-config";
  /** Between 0 and 1. */
  confidence: number;
}

/** The script calls backward for the first time. */
export interface BackwardCalled {
}

/** A batch norm takes its statistics from few values. */
export interface BatchNormOfFew {
  /** Values for each channel. */
  values: number;
  /** Samples in the batch. */
  batch: number;
}

/** The winner of the trials. */
export interface BestTrial {
  /** The id of the treatment; those of several together are joined by `+`. */
  remedy: string;
  /** Those given; by the id of the treatment where there are several. */
  settings: Record<string, JsonNumber | number | string | boolean | Record<string, JsonNumber | number | string | boolean>>;
  /** What the script printed, else the recorded level. */
  final_loss: JsonNumber;
  why: string;
  /** All of it, as `run --treat` takes it. */
  treat: string[];
  /** Its name. */
  trial: string;
  /** Whether it won again; None where that was not tried. */
  confirmed: boolean | null;
  confirmed_by: "repeat" | "second seed" | null;
}

/** Where a cause sits, as far as it is known. */
export interface CauseSite {
  phase: "backward" | "forward" | "input" | "loss" | "optimizer" | null;
  /** As in `named_modules()`. */
  module: string | null;
  /** As in `named_parameters()`. */
  parameter: string | null;
  /** torch's function name, such as `log`. */
  op: string | null;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  time_step: number | null;
  /** The first positions in the batch. */
  samples: number[] | null;
  /** How many positions of the batch there are. */
  samples_in_all: number | null;
  /** The process, where several trained. */
  rank: number | null;
}

/** A clipping call comes between a step and the next backward call. */
export interface ClipAfterStep {
  /** Tensors that it is given. */
  parameters: number;
  max_norm: JsonNumber | null;
  /** Always 1. */
  ratio: JsonNumber;
  /** Whether this call scaled the gradients. */
  acts: boolean;
}

/** The script clips gradients: its first call. */
export interface ClipCalled {
  /** Tensors that it is given. */
  parameters: number;
  max_norm: JsonNumber | null;
  /** Always 1. */
  ratio: JsonNumber;
  /** Whether this call scaled the gradients. */
  acts: boolean;
}

/** A clipping call is given a parameter more than once. */
export interface ClipDuplicates {
  /** Tensors that it is given, each as often as it is given. */
  parameters: number;
  max_norm: JsonNumber | null;
  /** The norm that the call computes over the norm with each tensor counted once. */
  ratio: JsonNumber;
  /** Whether this call scaled the gradients. */
  acts: boolean;
}

/** The limit, and the largest norm that it was given. */
export interface ClipIdleEvidence {
  max_norm: JsonNumber;
  largest_norm: JsonNumber;
  /** Steps with a clip. */
  steps: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A clipping call before a step is given nothing that has a gradient. */
export interface ClipNothing {
  /** Tensors that are stepped. */
  stepped: number;
  max_norm: JsonNumber | null;
}

/** The clipping calls before a step leave out gradients that the optimizer steps with. */
export interface ClipPartial {
  /** Tensors that are clipped and stepped. */
  parameters: number;
  /** Tensors that are stepped. */
  stepped: number;
  max_norm: JsonNumber | null;
}

/** How often the clip acted of late, and how much of the gradient it left. */
export interface ClipSaturatedEvidence {
  /** Of the steps, 0 to 1. */
  share_clipped: JsonNumber;
  median_coefficient: JsonNumber;
  max_norm: JsonNumber;
  window_steps: number;
  /** The loss, where it is the one of the start and nothing is learned. */
  stuck_loss?: JsonNumber;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A clipping call is given gradients that still hold the loss scale. */
export interface ClipScaled {
  /** Tensors that it is given. */
  parameters: number;
  max_norm: JsonNumber | null;
  /** The loss scale that the gradients hold. */
  ratio: JsonNumber;
  /** Whether this call scaled the gradients. */
  acts: boolean;
}

/** Growth through the layers of one sampled graph. */
export interface DepthGainEvidence {
  /** Bits a layer that deltas gain on the way back; None where it is not known. */
  backward_bits_per_layer: JsonNumber | null;
  /** Bits a layer that activations gain on the way forward; None where it is not known. */
  forward_bits_per_layer: JsonNumber | null;
  layers: number;
  /** Layers more until the dtype overflows; None where its headroom is not known. */
  layers_to_overflow: JsonNumber | null;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** The most likely cause of what went wrong in a run. */
export interface Diagnosis {
  cause: "init-scale" | "recurrent-gain" | "learning-rate" | "residual-growth" | "bad-data" | "numeric-op" | "dtype-overflow" | "clip-misuse" | "loss-reduction" | "grad-accumulation" | "normalization" | "unbounded-objective" | "optimizer-config";
  /** Between 0 and 1; those of all causes and of an unknown one add up to 1. */
  confidence: number;
  /** The next causes, the most likely first. */
  alternatives: Alternative[];
  first_alarm_step: number | null;
  failure_step: number | null;
  site: CauseSite;
  /** To be tried in this order. */
  remedies: Remedy[];
  /** What speaks most for the cause first. */
  evidence: Evidence[];
}

/** A norm beyond reason that the network makes, not the unit of its targets. */
export interface ElasticNormEvidence {
  form: "elastic";
  /** ‖g‖·‖w‖/|loss|: how many times more the loss changes than the weights, in relative terms. */
  elasticity: JsonNumber;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** One observation on the record, and how much it speaks for the cause. */
export interface Evidence {
  /** Its id. */
  evidence: string;
  /** Log-odds that it adds to the cause; negative where it speaks against it. */
  bits: number;
  /** In words, with the numbers that a person can check. */
  text: string;
  /** What the words are made of, by name; empty in findings of earlier versions. */
  numbers: Record<string, JsonNumber | number | string>;
}

/** A line of faults.jsonl: the first wrong operation of a step */
export interface Fault {
  step: number;
  kind: "constant" | "domain" | "input" | "overflow" | "parameter" | "singular-derivative" | "target" | "unknown" | "update";
  phase: "backward" | "forward" | "input" | "loss" | "optimizer";
  site: Site;
  evidence: FaultEvidence;
  parameter: string | null;
  time_step: number | null;
  /** Positions in the batch. */
  samples: number[] | null;
  /** From the culprit to the loss, or to the parameters. */
  chain: Site[];
  /** One sentence for people. */
  message: string;
}

/** What the autopsy measured. None, or False, is what it did not measure or does not apply. */
export interface FaultEvidence {
  reason?: "custom-backward" | "derivative-infinite" | "derivative-of-equal-values" | "derivative-overflow" | "gradient-nan" | "gradient-overflow" | "masked-to-inf" | "nan" | "nan-of-inf" | "nonfinite-operand" | "nonfinite-parameter" | "opaque" | "outside-domain" | "overflow" | "overflow-inside" | "unexplained-gradient" | "unexplained-loss" | "update";
  /** How the operation left its domain, in its own words: `log of 0`. For people only. */
  domain?: string;
  /** The offending elements, of the tensor that tells most of the samples. */
  share?: Share;
  /** Smallest positive value of the argument elsewhere. */
  smallest_positive?: JsonNumber;
  /** What the operation gave out. */
  value?: "inf" | "nan";
  /** torch's name of the dtype whose range was left, without the prefix. */
  dtype?: string;
  /** The largest value of that dtype. */
  largest_finite?: JsonNumber;
  /** Of the result. */
  elements?: number;
  /** Elements of the result, or of the operand, that are NaN or inf. */
  nonfinite?: number;
  /** By argument, its largest finite magnitude. */
  largest_input?: Record<string, JsonNumber>;
  /** Whether the same operation is finite in float64. */
  float64_finite?: boolean;
  /** Largest magnitude that it reaches there. */
  largest_float64?: JsonNumber;
  /** Whether the domain was inferred from the result, for the argument was not saved. */
  argument_unsaved?: boolean;
  /** Whether the operation is a normalisation layer. */
  normalizes?: boolean;
  /** How operations of this kind get out of their domain. */
  hazard?: "divisor" | "equal-values" | "exponential" | "from-one" | "logarithm" | "masked-row" | "no-elements" | "power" | "root" | "within-one";
  /** Arguments of `clamp` that keep the operation's argument within: `min=1e-8`. */
  clamp?: string;
  /** Where the operation itself measures how far values lie apart. */
  dispersion?: "deviation" | "norm";
  /** Where the operation divides by such a measure, also one that is written by hand. */
  divisor?: "deviation" | "norm";
  /** By argument, the operation that made it. */
  operands?: Record<string, string>;
  /** Whether what overflows came from an argument that autograd does not track. */
  brought_in?: boolean;
  /** The argument that autograd does not track and that was not finite as it entered. */
  operand?: string;
  operand_shape?: number[];
  operand_value?: "inf" | "nan";
  /** What the offending elements of the operand fill; the first dimension counts samples. */
  fills?: "elements" | "features" | "samples" | "whole";
  /** Index of the first of them. */
  first?: number[];
  /** Variable that holds a finite tensor of the operand's size. */
  raw?: string;
  /** Buffer of a module that is not finite. */
  state?: string;
  state_dtype?: string;
  batch_size?: number;
  /** Whether the value is hidden from the loss, though not from its gradient. */
  is_hidden?: boolean;
  /** The operation that hides it. */
  hidden_by?: string;
  /** The argument whose derivative is not finite. */
  argument?: string;
  /** Its first offending value. */
  at?: JsonNumber;
  at_imaginary?: JsonNumber;
  /** Parameters whose gradient is not finite. */
  nonfinite_gradients?: number;
  /** Parameters that have one. */
  gradients?: number;
  /** Of those that are not finite, how many lie before the operation. */
  explained?: number;
  /** log2 of the largest magnitude of the gradient that went in. */
  largest_gradient_bits?: JsonNumber;
  /** State of the optimizer that is 0 in `zero_second_moments` of the elements it spoiled. */
  second_moment?: string;
  zero_second_moments?: number;
  /** Whether the script stopped at the loss, so that no row holds it. */
  no_backward?: boolean;
}

/** What `report --json` and `diagnose --json` print; findings.json */
export interface Findings {
  /** Optimizer steps recorded. */
  steps: number;
  verdict: "at-risk" | "failed" | "healthy";
  symptoms: Symptom[];
  /** None for a healthy run, and where there is no evidence. */
  diagnosis: Diagnosis | null;
  schema: "gainstage.findings/1";
}

/** How far the norm has risen above its own level, and how fast it still rises. */
export interface GradientGrowthEvidence {
  /** Median of the last three norms over the reference of the steps before them. */
  bits_gained: JsonNumber;
  slope_bits_per_step: JsonNumber;
  /** Steps that are remembered one by one. */
  window_steps: number;
  /** Step at which these numbers were measured. */
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** The tensor that rules the norm, and how far the others are below it. */
export interface GradientImbalanceEvidence {
  tensor: string;
  /** Of the squared norm, 0 to 1: the median over 16 steps. */
  share: JsonNumber;
  /** Bits that the median of the other tensors is below it. */
  bits_apart: JsonNumber;
  /** Of the 16 steps, 0 to 1. */
  share_clipped: JsonNumber;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** The first step with such a gradient that was not left out, else the first. */
export interface GradientNonfiniteEvidence {
  /** Names of the first of them. */
  tensors: string[];
  tensors_hurt: number;
  tensors_seen: number;
  has_nan: boolean;
  has_inf: boolean;
  /** Whether every step with such a gradient was left out. */
  is_left_out: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A gradient that is lost from the last layer to the first. */
export interface GradientOverDepthEvidence {
  form: "depth";
  bits_lost: JsonNumber;
  slope_bits_per_tensor: JsonNumber;
  tensors: number;
  first_tensor: string;
  last_tensor: string;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** How high the outlier was, and how long. */
export interface GradientSpikeEvidence {
  /** Bits above the norm's level. */
  peak_bits: JsonNumber;
  steps: number;
  /** Step at which it began. */
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** Several backward calls add up for one step. */
export interface GradientsAccumulated {
  /** Backward calls for this step when it was seen. */
  calls: number;
  /** Whether the loss is divided, as for a mean over the calls. */
  divided: boolean;
}

/** Gradients of an earlier step are still there as a backward call adds to them. */
export interface GradientsNotZeroed {
  /** Tensors with such a gradient. */
  tensors: number;
  /** Tensors that are stepped. */
  of: number;
  /** How often it has been seen. */
  times: number;
}

/** A shape of graph that was seen: the sites of its nodes. */
export interface GraphShape {
  /** Index into `sites` of each node in forward order; -1 for none. */
  nodes: number[];
}

/** Weights that have grown by more than all updates can have moved them. */
export interface GrowthBeyondUpdatesEvidence {
  form: "beyond-updates";
  bits_gained: JsonNumber;
  /** By how much the norm of all weights has grown. */
  grown: JsonNumber;
  /** By how much all updates together can have moved it at most. */
  moved_by_updates: JsonNumber;
  /** The norm of all weights before it grew. */
  norm_before: JsonNumber;
  /** Step at which that was sampled. */
  since: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** The output of a sampled graph that is closest to its dtype's largest value. */
export interface HeadroomLowEvidence {
  headroom_bits: JsonNumber;
  /** torch's name without the prefix. */
  dtype: string;
  /** Index into the sites; -1 where the operation matches none. */
  site: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A number; NaN and infinities, which JSON lacks, are strings. */
export type JsonNumber = number | "nan" | "inf" | "-inf";

/** The smallest argument of a logarithm, each time that it is half a bit smaller than before. */
export interface LogNearZero {
  /** -log2 of the argument. */
  bits: JsonNumber;
  /** -log2 of the smallest argument that the dtype tells from 0. */
  limit_bits: JsonNumber;
}

/** A loss far above its range. */
export interface LossAboveEvidence {
  form: "above";
  loss: JsonNumber;
  /** Top of the range that the loss had while it was healthy. */
  highest_before: JsonNumber;
  /** Median of the last losses above that top, in units of the range. */
  height_in_ranges: JsonNumber;
  /** Whether it has stayed above for 8 steps; else it rises. */
  is_lasting: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** What the first backward call is called on, and how its value was put together. */
export interface LossMade {
  /** The autograd node of the loss, such as `MeanBackward0`; empty for a leaf. */
  node: string;
  /** Elements that are added up and not divided by their number; 1 for a mean. */
  summed_elements: number;
  /** None where the graph does not show it. */
  reduction: "mean" | "none" | "sum" | null;
}

/** The first loss that is not finite. */
export interface LossNonfiniteEvidence {
  value: JsonNumber;
  /** Whether no backward call was made on it, so that no row holds it. */
  is_without_backward: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A loss far below zero that falls ever faster. */
export interface LossUnboundedEvidence {
  form: "unbounded";
  loss: JsonNumber;
  loss_at_start: JsonNumber;
  /** Median of the first chunk of the record. */
  first_loss: JsonNumber;
  /** Fall in the later half of the run over that in the quarter before. */
  fall_ratio: JsonNumber;
  /** Bits that the gradient norm has grown by. */
  gradient_bits: JsonNumber;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A loss that was far below its start and now stays above it. */
export interface LossUnlearntEvidence {
  form: "unlearnt";
  /** Median of the last 16 steps. */
  loss: JsonNumber;
  loss_at_start: JsonNumber;
  lowest: JsonNumber;
  /** Bits of the gradient norm above its level. */
  gradient_bits: JsonNumber;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A gradient that has jumped so far that its update is as large as the weights. */
export interface NormJumpEvidence {
  form: "jump";
  /** Bits of the gradient norm over the median of the steps before. */
  jump_bits: JsonNumber;
  /** log2 of lr times norm over the weights' norm. */
  update_ratio_bits: JsonNumber;
  /** Whether the record holds the norm of the update itself. */
  is_update_measured: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** How many values the statistics of a batch norm come from. */
export interface NormalizationNoiseEvidence {
  /** Values for each channel. */
  values: number;
  /** Samples in the batch. */
  batch: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A line of observations.jsonl: something that the script does */
export type Observation = {
  evidence: OptimizerMade;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "optimizer";
} | {
  evidence: OptimizerStepped;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "optimizer-step";
} | {
  evidence: ClipCalled;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "clip";
} | {
  evidence: ClipAfterStep;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "clip-after-step";
} | {
  evidence: ClipScaled;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "clip-scaled";
} | {
  evidence: ClipPartial;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "clip-partial";
} | {
  evidence: ClipNothing;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "clip-nothing";
} | {
  evidence: ClipDuplicates;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "clip-duplicates";
} | {
  evidence: BatchNormOfFew;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "batch-norm";
} | {
  evidence: LogNearZero;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "log-near-zero";
} | {
  evidence: LossMade;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "loss";
} | {
  evidence: GradientsAccumulated;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "accumulation";
} | {
  evidence: GradientsNotZeroed;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "gradient-not-zeroed";
} | {
  evidence: BackwardCalled;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "backward";
} | {
  evidence: ParametersUnstepped;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "parameters-unheld";
} | {
  evidence: TensorsLeftOut;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "tensors-left-out";
} | {
  evidence: SamplingRateChanged;
  /** The optimizer step to come when it was seen. */
  step: number;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  kind: "sampling-rate";
};

/** An optimizer is made. */
export interface OptimizerMade {
  /** Such as `AdamW`. */
  class: string;
  settings: OptimizerSettings;
}

/** Settings of an optimizer when it was made; None where its class has no such setting. */
export interface OptimizerSettings {
  lr?: JsonNumber;
  momentum?: JsonNumber;
  betas?: (JsonNumber | null)[];
  /** Adafactor has two of them. */
  eps?: JsonNumber | (JsonNumber | null)[];
  weight_decay?: JsonNumber;
  alpha?: JsonNumber;
  nesterov?: boolean;
  maximize?: boolean;
}

/** An optimizer steps for the first time. */
export interface OptimizerStepped {
  /** Different learning rates of its groups, where there are several. */
  rates?: number;
}

/** When a growth meets the largest value of its dtype, if it goes on as it does. */
export interface OverflowForecastEvidence {
  of: "logarithm" | "norm" | "output";
  overflow_step: JsonNumber;
  /** With `latest_step` the interval that holds the step of the overflow. */
  earliest_step: JsonNumber;
  latest_step: JsonNumber;
  /** Probability that the interval holds it. */
  interval: JsonNumber;
  slope_bits_per_step: JsonNumber;
  /** Bits that were left when it was forecast. */
  headroom_bits: JsonNumber;
  /** The one that overflows: torch's name without the prefix. */
  dtype?: string;
  /** Index into the sites of the operation whose output it is. */
  site?: number;
  /** Of a logarithm: bits that its smallest argument is below 1. */
  argument_bits?: JsonNumber;
  /** Of the logarithm. */
  line?: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** Parameters get gradients, are in no optimizer, and were created after it. */
export interface ParametersUnstepped {
  tensors: number;
  /** Tensors of the network. */
  of: number;
  /** The first few of them. */
  names: string[];
}

/** What `prescribe --json` prints; prescription.json */
export interface Prescription {
  /** Where the records of all trials are. */
  folder: string;
  baseline: UntreatedTrial;
  trials: Trial[];
  /** The winner; None where nothing helped. */
  best: BestTrial | null;
  /** The outcome in one sentence. */
  said: string;
  /** The winner as a unified diff of the user's source. */
  diff: string | null;
  /** At which the script ended with that diff; None where it was not run. */
  diff_final_loss: JsonNumber | null;
  /** What to do by hand, where there is no safe edit of the winner. */
  instruction: string | null;
  /** What to change in code or data to take the cause away, which no treatment can. */
  code_change: string | null;
  is_interrupted: boolean;
}

/** A learning rate that has climbed several-fold. */
export interface RateClimbEvidence {
  form: "rate";
  lr: JsonNumber;
  /** The highest rate before the climb. */
  highest_before: JsonNumber;
  /** Whether the record holds the norm of the update itself. */
  is_update_measured: boolean;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** What helps against a cause: a treatment with its settings, or a change by hand. */
export interface Remedy {
  /** The id of a treatment, or one of `BY_HAND`. */
  remedy: "code-change" | "skip-nonfinite" | "clip-global-norm" | "clip-value" | "raise-eps" | "lower-lr" | "warm-up" | "scale-loss" | "clip-adaptive" | "fp32-module" | "reinit" | "insert-norm" | "fix-data";
  settings: Record<string, JsonNumber | number | string | boolean>;
  why: string;
}

/** How the script ended. */
export interface RunExit {
  /** The error that ended the script. */
  exception: string | null;
  /** What killed the process, where it did not end by itself. */
  killed?: string;
}

/** run.json: what ran, and how it ended */
export interface RunInfo {
  schema: "gainstage.run/1";
  script: string;
  argv?: string[];
  cwd?: string;
  python?: string;
  /** null until torch is imported. */
  torch: string | null;
  gainstage?: string;
  /** Of torch in the first process; absent until it trains. */
  threads?: number;
  /** As `run --treat` takes them. */
  treat?: string[];
  /** As `run --guard` takes it. */
  guard?: string;
  host?: string;
  /** Of the first process, on that host. */
  pid?: number;
  /** Date and time in UTC, as ISO 8601 writes them. */
  started?: string;
  /** null while it runs, or if it was killed. */
  ended: string | null;
  /** null while it runs, if it was killed, or under `gainstage.watch`. */
  exit: RunExit | null;
  /** Ranks of torch.distributed; absent where the processes that train are no ranks. */
  world_size?: number;
  /** Most bytes of inputs that were held at once until their step was judged. */
  held_bytes?: number;
}

/** Gradients that nothing has zeroed before the backward call. */
export interface RunningSumEvidence {
  form: "gradient-not-zeroed";
  /** Tensors whose gradient is a running sum. */
  tensors: number;
  /** Tensors with a gradient. */
  of: number;
  /** Of the backward call. */
  line?: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** Samples have cost far more than their share of the time, and are taken more rarely since. */
export interface SamplingRateChanged {
  what: "graphs" | "weights";
  /** Steps between two samples from here on, about. */
  interval: number;
  /** Steps between two samples until here. */
  before: number;
}

/** So many elements of so many. */
export interface Share {
  count: number;
  elements: number;
}

/** Gradients that are gone since some step. */
export interface SilentGradientsEvidence {
  form: "steps";
  /** Of the tensors that ever had a gradient, 0 to 1. */
  share_silent: JsonNumber;
  loss: JsonNumber;
  loss_at_start: JsonNumber;
  /** Whether the loss is that of a network before training. */
  is_untrained: boolean;
  since_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** One place in the user's code that makes graph nodes. */
export interface Site {
  /** torch's function name, such as `log`. */
  op: string;
  /** As in `named_modules()`; None outside of any module's call. */
  module: string | null;
  /** The user's function that holds the line. */
  function: string | null;
  /** Absolute path of the user's file. */
  file: string | null;
  line: number | null;
  /** Whether the operation is a sum of two arguments; None where that was not recorded. */
  adds: boolean | null;
  /** Whether its output holds its input's values and no others: a view, a cast, a copy. */
  keeps_values: boolean | null;
}

/** sites.json: places in the code that make graph nodes */
export interface SitesFile {
  schema: "gainstage.sites/1";
  sites: Site[];
  /** One for each shape of graph that was seen. */
  graphs: GraphShape[];
}

/** Steps left out of late, and in all. */
export interface StepsSkippedEvidence {
  form: "left-out";
  by: "scaler" | "treatment";
  /** Of the steps tried of late, 0 to 1. */
  share: JsonNumber;
  recent_left_out: number;
  /** Steps tried of late. */
  recent_steps: number;
  /** Most steps left out one after the other. */
  longest_run: number;
  /** In all. */
  left_out: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A norm that stays far above the run's own. */
export interface SustainedNormEvidence {
  form: "sustained";
  /** log2 of the latest norm. */
  grad_norm_bits: JsonNumber;
  /** log2 of the norm that the run had before. */
  usual_bits: JsonNumber;
  /** Distance in robust standard deviations. */
  robust_z: JsonNumber;
  since_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

export type Symptom = {
  symptom: "loss-nonfinite";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: LossNonfiniteEvidence;
} | {
  symptom: "gradient-nonfinite";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientNonfiniteEvidence;
} | {
  symptom: "update-nonfinite";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: UpdateNonfiniteEvidence;
} | {
  symptom: "gradient-growth";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientGrowthEvidence;
} | {
  symptom: "gradient-norm";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: AbsurdNormEvidence | ElasticNormEvidence | SustainedNormEvidence;
} | {
  symptom: "gradient-spike";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientSpikeEvidence;
} | {
  symptom: "depth-gain";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: DepthGainEvidence;
} | {
  symptom: "time-gain";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: TimeGainEvidence;
} | {
  symptom: "headroom-low";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: HeadroomLowEvidence;
} | {
  symptom: "overflow-forecast";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: OverflowForecastEvidence;
} | {
  symptom: "update-spike";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: NormJumpEvidence | RateClimbEvidence | AdamRewriteEvidence;
} | {
  symptom: "loss-divergence";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: LossAboveEvidence | LossUnlearntEvidence | LossUnboundedEvidence;
} | {
  symptom: "weight-growth";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: TensorGrowthEvidence | WeightsDoubledEvidence | GrowthBeyondUpdatesEvidence;
} | {
  symptom: "gradient-imbalance";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientImbalanceEvidence;
} | {
  symptom: "step-skipped";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: StepsSkippedEvidence | UnsteppedParametersEvidence;
} | {
  symptom: "gradient-vanishing";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: SilentGradientsEvidence | GradientOverDepthEvidence;
} | {
  symptom: "clip-saturated";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: ClipSaturatedEvidence;
} | {
  symptom: "clip-idle";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: ClipIdleEvidence;
} | {
  symptom: "norm-mismatch";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: WrongClipNormEvidence | RunningSumEvidence;
} | {
  symptom: "normalization-noise";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: NormalizationNoiseEvidence;
};

/** A line of symptoms.jsonl: a symptom, new or changed */
export type SymptomLine = {
  symptom: "loss-nonfinite";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: LossNonfiniteEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "gradient-nonfinite";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientNonfiniteEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "update-nonfinite";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: UpdateNonfiniteEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "gradient-growth";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientGrowthEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "gradient-norm";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: AbsurdNormEvidence | ElasticNormEvidence | SustainedNormEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "gradient-spike";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientSpikeEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "depth-gain";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: DepthGainEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "time-gain";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: TimeGainEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "headroom-low";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: HeadroomLowEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "overflow-forecast";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: OverflowForecastEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "update-spike";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: NormJumpEvidence | RateClimbEvidence | AdamRewriteEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "loss-divergence";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: LossAboveEvidence | LossUnlearntEvidence | LossUnboundedEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "weight-growth";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: TensorGrowthEvidence | WeightsDoubledEvidence | GrowthBeyondUpdatesEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "gradient-imbalance";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: GradientImbalanceEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "step-skipped";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: StepsSkippedEvidence | UnsteppedParametersEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "gradient-vanishing";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: SilentGradientsEvidence | GradientOverDepthEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "clip-saturated";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: ClipSaturatedEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "clip-idle";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: ClipIdleEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "norm-mismatch";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: WrongClipNormEvidence | RunningSumEvidence;
  /** The process; absent for the first. */
  rank?: number;
} | {
  symptom: "normalization-noise";
  severity: "info" | "warning" | "critical";
  /** The first step at which it was seen. */
  step: number;
  /** One sentence for people. */
  message: string;
  evidence: NormalizationNoiseEvidence;
  /** The process; absent for the first. */
  rank?: number;
};

/** The tensor that has grown most. */
export interface TensorGrowthEvidence {
  form: "tensor";
  tensor: string;
  bits_gained: JsonNumber;
  slope_bits_per_step: JsonNumber;
  /** Bits that are left to the dtype's largest value, at least. */
  headroom_bits: JsonNumber;
  since_step: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** Tensors were not read, for one reason: what the record says is without them. */
export interface TensorsLeftOut {
  reason: "capturing" | "dispatches" | "functional" | "layout" | "meta" | "no-memory" | "share";
  /** Reads that were left out, each tensor as often as it was to be read. */
  count: number;
}

/** Growth along the steepest recurrence of one sampled graph. */
export interface TimeGainEvidence {
  /** Bits a time step that deltas gain on the way back. */
  slope_bits_per_time_step: JsonNumber;
  time_steps: number;
  /** Time steps more until float32 overflows. */
  steps_to_overflow: JsonNumber;
  /** Index into the sites of the operation that makes the state; -1 where it matches none. */
  site: number;
  /** Within a fused layer's node; 0 otherwise. */
  layer: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A line of treatments.jsonl: what a treatment or guard did */
export type TreatmentEvent = {
  event: "ended" | "started";
  /** The process. */
  rank: number | null;
  /** As `--treat` or `--guard` gives it. */
  treat: string;
  remedy: string;
  /** As `--treat` takes them, defaults included. */
  settings: Record<string, JsonNumber | number | string | boolean | null>;
  step: number;
  /** Steps that it has changed so far. */
  touched: number;
  /** What must be said, such as why it could not be done. */
  notes?: string[];
  /** What exactly was done; the keys are those of the kind of treatment. */
  details?: Record<string, unknown>;
} | {
  event: "refused" | "rolled back" | "skipped" | "stopped";
  /** The process. */
  rank: number | null;
  /** As `--guard` gives it. */
  treat: string;
  remedy: string;
  step: number;
  /** Seconds since the epoch. */
  time: JsonNumber;
  message: string;
  /** Norm of the gradients that were not used. */
  grad_norm?: JsonNumber;
  /** How many good steps the state was taken back by. */
  good_steps?: number;
  /** What learning rates are multiplied by from here on. */
  lr_factor?: JsonNumber;
  /** Memory that the copies of earlier states take. */
  snapshots_bytes?: number;
};

/** One run of the unmodified script, treated or as it is (the baseline): what came of it. */
export interface Trial {
  /** Of its folder. */
  name: string;
  /** As `run --treat` takes them; empty for the baseline. */
  treat: string[];
  why: string;
  outcome: "behind" | "crashed" | "dead" | "finished" | "lost" | "running" | "stopped" | "timeout" | "waiting";
  /** Steps in its record. */
  steps: number;
  /** Median of the last recorded losses; NaN where there is none. */
  loss: JsonNumber;
  /** What the script printed as `final_loss=`; None where it prints none. */
  final_loss: JsonNumber | null;
  seconds: number;
  exit: number | null;
  note: string;
}

/** Parameters that get gradients and are in no optimizer. */
export interface UnsteppedParametersEvidence {
  form: "parameters-unheld";
  tensors: number;
  /** Tensors with gradients. */
  of: number;
  /** Of the first of them. */
  names: string[];
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** The script as it is: what the trials are compared with. */
export interface UntreatedTrial {
  name: string;
  treat: string[];
  why: string;
  outcome: "behind" | "crashed" | "dead" | "finished" | "lost" | "running" | "stopped" | "timeout" | "waiting";
  steps: number;
  loss: JsonNumber;
  final_loss: JsonNumber | null;
  seconds: number;
  exit: number | null;
  note: string;
  verdict: "at-risk" | "failed" | "healthy";
  cause: "init-scale" | "recurrent-gain" | "learning-rate" | "residual-growth" | "bad-data" | "numeric-op" | "dtype-overflow" | "clip-misuse" | "loss-reduction" | "grad-accumulation" | "normalization" | "unbounded-objective" | "optimizer-config" | null;
}

/** The weight that the update made NaN or inf, and why. */
export interface UpdateNonfiniteEvidence {
  /** As in `named_parameters()`; None where its name is not known. */
  parameter: string | null;
  /** The operation of the update. */
  op: string;
  /** Elements of the weight that are not finite. */
  elements?: number;
  /** Elements of the weight. */
  numel?: number;
  /** The optimizer's running square that the update divided by although it is 0. */
  zero_state?: string;
  /** Elements in which it is 0. */
  zero_elements?: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** All weights together, at a stroke. */
export interface WeightsDoubledEvidence {
  form: "doubled";
  bits_gained: JsonNumber;
  /** log2 of the norm of all weights. */
  norm_bits: JsonNumber;
  /** Steps between the two samples. */
  steps: number;
  at_step: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}

/** A clip by another norm than that of the gradients which are stepped with. */
export interface WrongClipNormEvidence {
  form: "clip-after-step" | "clip-duplicates" | "clip-nothing" | "clip-partial" | "clip-scaled";
  /** Of the norm that the script clips by to the true one; 1 where it is not known. */
  ratio: JsonNumber;
  /** Tensors that it is given. */
  clipped?: number;
  /** Tensors that are stepped. */
  stepped?: number;
  /** Of the clipping call. */
  line?: number;
  /** The last step at which it was seen. */
  last_step: number;
  /** Steps on which it was seen. */
  count: number;
  /** Step at which it turned out to be harmless. */
  recovered_step?: number;
  /** The process that showed it, where several trained. */
  rank?: number;
}
