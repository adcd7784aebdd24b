// Types of the template example/everything 1.0.0.
// Written by `tasker-ctl generate types`, which writes over changes.

/**
 * What a task is created with, defaults filled in.
 * An order.
 * In two lines, with * / and "quotes" and a \ backslash.
 */
export interface Context {
  ""?: boolean;
  Class?: string;
  anything?: unknown;
  balance?: number;
  /** A word that is reserved */
  class?: string;
  customer: Person;
  delivery?: Address | null;
  empty?: ContextEmpty;
  /** Always true. */
  flag?: true;
  "größe 1"?: number;
  limits?: ContextLimits;
  mood?: ContextMood | null;
  note?: ContextNote;
  nothing?: null;
  /** Any JSON: what the schema says of it, no type can say. */
  odd?: unknown;
  /**
   * Its number.
   * Format: uuid.
   */
  "order-id": string;
  /** The items differ by their place, which no type says: each is any JSON. */
  pair?: Array<unknown>;
  payment: ContextPayment;
  prices?: { [key: string]: number };
  /** Default: "low". */
  priority: ContextPriority;
  quantity: number;
  /** Beyond 2^53, JSON.parse rounds it. */
  serial?: number;
  /** One of 1, 2, 3. */
  size?: 1 | 2 | 3;
  tags?: Array<string>;
}

/** Somebody. */
export interface Person {
  boss?: Person;
  friends?: Array<Person>;
  home?: Address;
  name: string;
}

export interface Address {
  city: string;
  street: string;
}

export type ContextEmpty = { [key: string]: never };

export interface ContextLimits {
  least: number;
  /** What else there is. */
  [key: string]: unknown;
}

export type ContextMood = "good" | "bad";

export type ContextNote = string | number | Array<number>;

export type ContextPayment = ContextPaymentCard | ContextPaymentTransfer;

export interface ContextPaymentCard {
  card_number: string;
  kind: ContextPaymentCardKind;
  /** Format: date. */
  valid_until?: string | null;
}

export type ContextPaymentCardKind = "card";

export interface ContextPaymentTransfer {
  amount?: number;
  kind: ContextPaymentTransferKind;
}

export type ContextPaymentTransferKind = "transfer";

export type ContextPriority = "low" | "high" | "very high" | "";

/** What the step check returns. */
export interface CheckResult {
  lines: Array<CheckResultLinesItem>;
  total: unknown;
  tree: Tree;
}

export interface CheckResultLinesItem {
  count?: number;
  sku: string;
}

export type Tree = { [key: string]: Tree };

/** What an instance of the step each-line returns. */
export type EachLineResult = string;

/** What the step approve returns. */
export interface ApproveResult {
  by: string;
}

/** What the step rest returns. */
export interface RestResult {
  /** Format: date-time. */
  fired_at: string;
}

/** What an instance of the step part returns. */
export interface PartResult {
  rows: number;
}

/** What the step ship returns. */
export type ShipResult = Array<Box>;

export interface Box {
  kg: number;
}

/** What an instance of the step each-line is given of its own. */
export interface EachLineInputs {
  /** The element that is this instance's. */
  item: CheckResultLinesItem;
  /** Its place among the instances, from 0. */
  index: number;
  /** How many instances there are. */
  total: number;
}

/** The results that the step cut is given, by the names of the steps. */
export interface CutDependencies {
  rest: RestResult;
}

/** What an instance of the step part is given of its own. */
export interface PartInputs {
  /** The part of the work that is this instance's. */
  cursor: unknown;
  /** Its place among the instances, from 0. */
  index: number;
  /** How many instances there are. */
  total: number;
}

/** How an instance of the step part ended. */
export interface PartInstance {
  /** Why it failed. */
  error?: unknown;
  /** Its place among the instances, from 0. */
  index: number;
  /** What it returned. */
  result?: PartResult;
  /** Its state: complete, resolved_manually or error. */
  status: string;
}

/** The results that the step ship is given, by the names of the steps. */
export interface ShipDependencies {
  /** A reference in place of the list, where the results are too long together. */
  "each-line"?: Array<EachLineResult>;
  approve?: ApproveResult;
  /** A reference in place of the list, where the results are too long together. */
  part?: Array<PartInstance>;
}

/** What the event order.shipped says. */
export interface OrderShippedEvent {
  /** Format: date-time. */
  at: string;
}
