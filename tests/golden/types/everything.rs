//! Types of the template example/everything 1.0.0.
//! Written by `tasker-ctl generate types`, which writes over changes.
#![allow(dead_code, unused_imports)]

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// What a task is created with, defaults filled in.
/// An order.
/// In two lines, with */ and "quotes" and a \ backslash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    #[serde(rename = "", default, skip_serializing_if = "Option::is_none")]
    pub field: Option<bool>,
    #[serde(rename = "Class", default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anything: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<i64>,
    /// A word that is reserved
    #[serde(rename = "class", default, skip_serializing_if = "Option::is_none")]
    pub class_2: Option<String>,
    pub customer: Person,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<ContextEmpty>,
    /// Always true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<bool>,
    #[serde(rename = "größe 1", default, skip_serializing_if = "Option::is_none")]
    pub gr_e_1: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ContextLimits>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mood: Option<ContextMood>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<ContextNote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing: Option<()>,
    /// Any JSON: what the schema says of it, no type can say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub odd: Option<Value>,
    /// Its number.
    /// Format: uuid.
    #[serde(rename = "order-id")]
    pub order_id: String,
    /// The items differ by their place, which no type says: each is any JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Vec<Value>>,
    pub payment: ContextPayment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<BTreeMap<String, f64>>,
    /// Default: "low".
    pub priority: ContextPriority,
    pub quantity: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<serde_json::Number>,
    /// One of 1, 2, 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

/// Somebody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Person {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boss: Option<Box<Person>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friends: Option<Vec<Person>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Address>,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Address {
    pub city: String,
    pub street: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextEmpty {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextLimits {
    pub least: i64,
    /// What else there is.
    #[serde(flatten)]
    pub extra: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextMood {
    #[serde(rename = "good")]
    Good,
    #[serde(rename = "bad")]
    Bad,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ContextNote {
    Text(String),
    Integer(i64),
    List(Vec<i64>),
}

impl<'de> Deserialize<'de> for ContextNote {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok(value) = Deserialize::deserialize(&value) {
            return Ok(Self::Integer(value));
        }
        if let Ok(value) = Deserialize::deserialize(&value) {
            return Ok(Self::Text(value));
        }
        if let Ok(value) = Deserialize::deserialize(&value) {
            return Ok(Self::List(value));
        }
        Err(serde::de::Error::custom("it is none of the alternatives of ContextNote"))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ContextPayment {
    Card(ContextPaymentCard),
    Transfer(ContextPaymentTransfer),
}

impl<'de> Deserialize<'de> for ContextPayment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if let Ok(value) = Deserialize::deserialize(&value) {
            return Ok(Self::Card(value));
        }
        if let Ok(value) = Deserialize::deserialize(&value) {
            return Ok(Self::Transfer(value));
        }
        Err(serde::de::Error::custom("it is none of the alternatives of ContextPayment"))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextPaymentCard {
    pub card_number: String,
    pub kind: ContextPaymentCardKind,
    /// Format: date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextPaymentCardKind {
    #[serde(rename = "card")]
    Card,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContextPaymentTransfer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<f64>,
    pub kind: ContextPaymentTransferKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextPaymentTransferKind {
    #[serde(rename = "transfer")]
    Transfer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContextPriority {
    #[serde(rename = "low")]
    Low,
    #[serde(rename = "high")]
    High,
    #[serde(rename = "very high")]
    VeryHigh,
    #[serde(rename = "")]
    Empty,
}

/// What the step check returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    pub lines: Vec<CheckResultLinesItem>,
    pub total: Value,
    pub tree: Tree,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckResultLinesItem {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<i64>,
    pub sku: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree(pub BTreeMap<String, Tree>);

/// What an instance of the step each-line returns.
pub type EachLineResult = String;

/// What the step approve returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApproveResult {
    pub by: String,
}

/// What the step rest returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestResult {
    /// Format: date-time.
    pub fired_at: String,
}

/// What an instance of the step part returns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartResult {
    pub rows: u64,
}

/// What the step ship returns.
pub type ShipResult = Vec<Box_>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Box_ {
    pub kg: f64,
}

/// What an instance of the step each-line is given of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EachLineInputs {
    /// The element that is this instance's.
    pub item: CheckResultLinesItem,
    /// Its place among the instances, from 0.
    pub index: u64,
    /// How many instances there are.
    pub total: u64,
}

/// The results that the step cut is given, by the names of the steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CutDependencies {
    pub rest: RestResult,
}

/// What an instance of the step part is given of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartInputs {
    /// The part of the work that is this instance's.
    pub cursor: Value,
    /// Its place among the instances, from 0.
    pub index: u64,
    /// How many instances there are.
    pub total: u64,
}

/// How an instance of the step part ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartInstance {
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
    /// Its place among the instances, from 0.
    pub index: u64,
    /// What it returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<PartResult>,
    /// Its state: complete, resolved_manually or error.
    pub status: String,
}

/// The results that the step ship is given, by the names of the steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShipDependencies {
    /// A reference in place of the list, where the results are too long together.
    #[serde(rename = "each-line", default, skip_serializing_if = "Option::is_none")]
    pub each_line: Option<Vec<EachLineResult>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<ApproveResult>,
    /// A reference in place of the list, where the results are too long together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Vec<PartInstance>>,
}

/// What the event order.shipped says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OrderShippedEvent {
    /// Format: date-time.
    pub at: String,
}
