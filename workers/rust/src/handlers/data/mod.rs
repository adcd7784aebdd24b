//! `data.*`: records of three sources are extracted, each summed up, and the sums put together.
//! Records given in the context (`sales`, `inventory`, `customers`) are used as they are; otherwise
//! samples are generated from its `seed` and `records`. And a CSV file is summed up in ranges.

mod csv;
mod extract;
mod report;
mod sample;
mod transform;

use serde::{Deserialize, Serialize};

pub(crate) use csv::{aggregate_csv_results, analyze_csv, process_csv_batch};
pub(crate) use extract::{extract_customers, extract_inventory, extract_sales};
pub(crate) use report::{aggregate_metrics, generate_insights};
pub(crate) use transform::{transform_customers, transform_inventory, transform_sales};

/// One line sold.
#[derive(Debug, Serialize, Deserialize)]
struct Sale {
    order_id: String,
    sku: String,
    region: String,
    quantity: u64,
    price_cents: u64,
}

/// What a warehouse holds of one sku.
#[derive(Debug, Serialize, Deserialize)]
struct Stock {
    sku: String,
    warehouse: String,
    on_hand: u64,
    reorder_at: u64,
}

/// A customer and what they spent so far.
#[derive(Debug, Serialize, Deserialize)]
struct Customer {
    customer_id: String,
    region: String,
    tier: String,
    spent_cents: u64,
}

/// What an extraction returns.
#[derive(Debug, Serialize, Deserialize)]
struct Extracted<T> {
    source: String,
    count: usize,
    records: Vec<T>,
}
