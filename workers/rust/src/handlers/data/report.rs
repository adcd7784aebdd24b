//! The sums put together, and what they say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_worker_runtime::StepContext;

use super::transform::{CustomerSummary, SalesSummary, StockSummary};
use crate::handlers::HandlerResult;
use crate::handlers::money::written;

/// A region with at least this share of the revenue, in per cent, is worth a word.
const STRONG_REGION_PERCENT: u64 = 40;

/// What `aggregate_metrics` returns. Averages are rounded down to whole cents.
#[derive(Debug, Serialize, Deserialize)]
struct Metrics {
    orders: usize,
    units: u64,
    revenue_cents: u64,
    average_order_cents: u64,
    top_region: Option<String>,
    top_region_percent: u64,
    best_seller: Option<String>,
    customers: usize,
    revenue_cents_per_customer: u64,
    on_hand: u64,
    /// Skus of which more was sold than is on hand.
    short: Vec<String>,
    to_reorder: Vec<String>,
}

/// Puts the three summaries together.
pub(crate) fn aggregate_metrics(step: &StepContext) -> HandlerResult {
    let sales: SalesSummary = step.dependency("transform_sales")?;
    let stock: StockSummary = step.dependency("transform_inventory")?;
    let customers: CustomerSummary = step.dependency("transform_customers")?;
    let top_region = largest(&sales.revenue_cents_by_region);
    let short = sales.units_by_sku.iter().filter(|(sku, sold)| {
        stock
            .on_hand_by_sku
            .get(*sku)
            .is_none_or(|held| held < sold)
    });
    Ok(serde_json::to_value(Metrics {
        orders: sales.orders,
        units: sales.units,
        revenue_cents: sales.revenue_cents,
        average_order_cents: share(sales.revenue_cents, sales.orders),
        top_region_percent: top_region.map_or(0, |(_, cents)| percent(cents, sales.revenue_cents)),
        top_region: top_region.map(|(region, _)| region.into()),
        best_seller: largest(&sales.units_by_sku).map(|(sku, _)| sku.into()),
        customers: customers.customers,
        revenue_cents_per_customer: share(sales.revenue_cents, customers.customers),
        on_hand: stock.on_hand,
        short: short.map(|(sku, _)| sku.clone()).collect(),
        to_reorder: stock.to_reorder,
    })?)
}

/// Says in sentences what the metrics mean.
pub(crate) fn generate_insights(step: &StepContext) -> HandlerResult {
    let metrics: Metrics = step.dependency("aggregate_metrics")?;
    let mut insights = vec![insight(
        "revenue",
        &format!(
            "{} orders brought {}",
            metrics.orders,
            written(metrics.revenue_cents)
        ),
    )];
    if let Some(region) = metrics
        .top_region
        .as_ref()
        .filter(|_| metrics.top_region_percent >= STRONG_REGION_PERCENT)
    {
        insights.push(insight(
            "region",
            &format!("{region} brought {} % of it", metrics.top_region_percent),
        ));
    }
    if let Some(sku) = &metrics.best_seller {
        insights.push(insight("best_seller", &format!("{sku} sold best")));
    }
    if !metrics.short.is_empty() {
        let skus = metrics.short.join(", ");
        insights.push(insight(
            "short",
            &format!("more was sold than is on hand of: {skus}"),
        ));
    }
    if !metrics.to_reorder.is_empty() {
        insights.push(insight(
            "reorder",
            &format!("{} stocks are below their mark", metrics.to_reorder.len()),
        ));
    }
    let attention = !metrics.short.is_empty() || !metrics.to_reorder.is_empty();
    Ok(json!({"needs_attention": attention, "insights": insights}))
}

fn insight(kind: &str, message: &str) -> Value {
    json!({"kind": kind, "message": message})
}

/// The entry with the largest value; of equals the first by name.
fn largest(totals: &BTreeMap<String, u64>) -> Option<(&str, u64)> {
    let entries = totals.iter().rev().max_by_key(|(_, total)| **total);
    entries.map(|(name, total)| (name.as_str(), *total))
}

fn share(total: u64, count: usize) -> u64 {
    total.checked_div(count as u64).unwrap_or(0)
}

fn percent(part: u64, whole: u64) -> u64 {
    let percent = (u128::from(part) * 100)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    percent as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sales: Value, stock: Value, customers: Value) -> StepContext {
        StepContext::draft("aggregate_metrics", "data.aggregate_metrics")
            .with_dependency("transform_sales", sales)
            .with_dependency("transform_inventory", stock)
            .with_dependency("transform_customers", customers)
    }

    fn metrics() -> HandlerResult {
        let sales = json!({
            "orders": 2,
            "units": 6,
            "revenue_cents": 551,
            "revenue_cents_by_region": {"north": 251, "south": 300},
            "units_by_sku": {"mug": 5, "tea": 1},
        });
        let stock =
            json!({"on_hand": 4, "on_hand_by_sku": {"mug": 4}, "to_reorder": ["mug@north"]});
        let customers = json!({
            "customers": 4,
            "spent_cents": 9,
            "customers_by_tier": {},
            "customers_by_region": {},
        });
        aggregate_metrics(&after(sales, stock, customers))
    }

    #[test]
    fn metrics_put_the_summaries_together() {
        let expected = json!({
            "orders": 2,
            "units": 6,
            "revenue_cents": 551,
            "average_order_cents": 275,
            "top_region": "south",
            "top_region_percent": 54,
            "best_seller": "mug",
            "customers": 4,
            "revenue_cents_per_customer": 137,
            "on_hand": 4,
            "short": ["mug", "tea"],
            "to_reorder": ["mug@north"],
        });
        assert_eq!(metrics(), Ok(expected));
    }

    #[test]
    fn insights_say_what_the_metrics_mean() {
        let step = StepContext::draft("generate_insights", "data.generate_insights");
        let result = generate_insights(
            &step.with_dependency("aggregate_metrics", metrics().expect("metrics")),
        );
        let result = result.expect("the metrics are good");
        let messages: Vec<_> = result["insights"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| &one["message"])
            .collect();
        assert_eq!(result["needs_attention"], true);
        assert_eq!(
            messages,
            [
                "2 orders brought 5.51",
                "south brought 54 % of it",
                "mug sold best",
                "more was sold than is on hand of: mug, tea",
                "1 stocks are below their mark",
            ]
        );
    }

    #[test]
    fn no_sales_are_no_error() {
        let sales = json!({
            "orders": 0,
            "units": 0,
            "revenue_cents": 0,
            "revenue_cents_by_region": {},
            "units_by_sku": {},
        });
        let stock = json!({"on_hand": 0, "on_hand_by_sku": {}, "to_reorder": []});
        let customers = json!({
            "customers": 0,
            "spent_cents": 0,
            "customers_by_tier": {},
            "customers_by_region": {},
        });
        let step = after(sales, stock, customers);
        let result = aggregate_metrics(&step).expect("nothing is a summary too");
        assert_eq!(
            (&result["average_order_cents"], &result["top_region"]),
            (&json!(0), &Value::Null)
        );
        let step = StepContext::draft("generate_insights", "data")
            .with_dependency("aggregate_metrics", result);
        assert_eq!(
            generate_insights(&step).expect("no metrics fail")["needs_attention"],
            false
        );
    }
}
