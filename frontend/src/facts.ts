/** Written by `make schemas` from the facts of gainstage.facts: do not edit. */

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

/** A number; NaN and infinities, which JSON lacks, are strings. */
export type JsonNumber = number | "nan" | "inf" | "-inf";

/** The smallest argument of a logarithm, each time that it is half a bit smaller than before. */
export interface LogNearZero {
  /** -log2 of the argument. */
  bits: JsonNumber;
  /** -log2 of the smallest argument that the dtype tells from 0. */
  limit_bits: JsonNumber;
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

/** Parameters get gradients, are in no optimizer, and were created after it. */
export interface ParametersUnstepped {
  tensors: number;
  /** Tensors of the network. */
  of: number;
  /** The first few of them. */
  names: string[];
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
  /** Most bytes of inputs that were held at once until their step was judged. */
  held_bytes?: number;
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
}

/** sites.json: places in the code that make graph nodes */
export interface SitesFile {
  schema: "gainstage.sites/1";
  sites: Site[];
  /** One for each shape of graph that was seen. */
  graphs: GraphShape[];
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
