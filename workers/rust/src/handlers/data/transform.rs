//! Each source summed up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tasker_worker_runtime::StepContext;

use super::{Customer, Extracted, Sale, Stock};
use crate::handlers::HandlerResult;
use crate::handlers::money::{sum, times};

/// What `transform_sales` returns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SalesSummary {
    pub(super) orders: usize,
    pub(super) units: u64,
    pub(super) revenue_cents: u64,
    pub(super) revenue_cents_by_region: BTreeMap<String, u64>,
    pub(super) units_by_sku: BTreeMap<String, u64>,
}

/// What `transform_inventory` returns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StockSummary {
    pub(super) on_hand: u64,
    pub(super) on_hand_by_sku: BTreeMap<String, u64>,
    /// `sku@warehouse` of what should be ordered.
    pub(super) to_reorder: Vec<String>,
}

/// What `transform_customers` returns.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CustomerSummary {
    pub(super) customers: usize,
    pub(super) spent_cents: u64,
    pub(super) customers_by_tier: BTreeMap<String, u64>,
    pub(super) customers_by_region: BTreeMap<String, u64>,
}

/// Orders, units and revenue, by region and by sku.
pub(crate) fn transform_sales(step: &StepContext) -> HandlerResult {
    let sales: Extracted<Sale> = step.dependency("extract_sales")?;
    let mut revenue_by_region = Vec::with_capacity(sales.records.len());
    for sale in &sales.records {
        revenue_by_region.push((&sale.region, times(sale.price_cents, sale.quantity)?));
    }
    let mut orders: Vec<_> = sales.records.iter().map(|sale| &sale.order_id).collect();
    orders.sort_unstable();
    orders.dedup();
    Ok(serde_json::to_value(SalesSummary {
        orders: orders.len(),
        units: sum(sales.records.iter().map(|sale| sale.quantity))?,
        revenue_cents: sum(revenue_by_region.iter().map(|(_, cents)| *cents))?,
        revenue_cents_by_region: totals(revenue_by_region),
        units_by_sku: totals(sales.records.iter().map(|sale| (&sale.sku, sale.quantity))),
    })?)
}

/// What is on hand, by sku, and what should be ordered.
pub(crate) fn transform_inventory(step: &StepContext) -> HandlerResult {
    let stocks: Extracted<Stock> = step.dependency("extract_inventory")?;
    let low = stocks
        .records
        .iter()
        .filter(|stock| stock.on_hand < stock.reorder_at);
    let mut to_reorder: Vec<_> = low
        .map(|stock| format!("{}@{}", stock.sku, stock.warehouse))
        .collect();
    to_reorder.sort_unstable();
    Ok(serde_json::to_value(StockSummary {
        on_hand: sum(stocks.records.iter().map(|stock| stock.on_hand))?,
        on_hand_by_sku: totals(
            stocks
                .records
                .iter()
                .map(|stock| (&stock.sku, stock.on_hand)),
        ),
        to_reorder,
    })?)
}

/// Customers by tier and region, and what they spent.
pub(crate) fn transform_customers(step: &StepContext) -> HandlerResult {
    let customers: Extracted<Customer> = step.dependency("extract_customers")?;
    Ok(serde_json::to_value(CustomerSummary {
        customers: customers.records.len(),
        spent_cents: sum(customers
            .records
            .iter()
            .map(|customer| customer.spent_cents))?,
        customers_by_tier: totals(customers.records.iter().map(|customer| (&customer.tier, 1))),
        customers_by_region: totals(
            customers
                .records
                .iter()
                .map(|customer| (&customer.region, 1)),
        ),
    })?)
}

/// Sums by key. The whole was summed before without leaving its range, so no part can.
fn totals<'a>(parts: impl IntoIterator<Item = (&'a String, u64)>) -> BTreeMap<String, u64> {
    let mut totals = BTreeMap::new();
    for (key, amount) in parts {
        *totals.entry(key.clone()).or_insert(0) += amount;
    }
    totals
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn after(name: &str, records: &Value) -> StepContext {
        let count = records.as_array().map_or(0, Vec::len);
        let result = json!({"source": name, "count": count, "records": records});
        StepContext::draft("transform", "data").with_dependency(name, result)
    }

    #[test]
    fn sales_are_summed_by_region_and_sku() {
        let records = json!([
            {"order_id": "a", "sku": "mug", "region": "north", "quantity": 2, "price_cents": 100},
            {"order_id": "a", "sku": "tea", "region": "north", "quantity": 1, "price_cents": 50},
            {"order_id": "b", "sku": "mug", "region": "south", "quantity": 3, "price_cents": 100},
        ]);
        let expected = json!({
            "orders": 2,
            "units": 6,
            "revenue_cents": 550,
            "revenue_cents_by_region": {"north": 250, "south": 300},
            "units_by_sku": {"mug": 5, "tea": 1},
        });
        assert_eq!(
            transform_sales(&after("extract_sales", &records)),
            Ok(expected)
        );
    }

    #[test]
    fn stock_below_its_mark_is_to_be_reordered() {
        let records = json!([
            {"sku": "mug", "warehouse": "north", "on_hand": 19, "reorder_at": 20},
            {"sku": "mug", "warehouse": "south", "on_hand": 20, "reorder_at": 20},
        ]);
        let expected =
            json!({"on_hand": 39, "on_hand_by_sku": {"mug": 39}, "to_reorder": ["mug@north"]});
        assert_eq!(
            transform_inventory(&after("extract_inventory", &records)),
            Ok(expected)
        );
    }

    #[test]
    fn customers_are_counted_by_tier_and_region() {
        let records = json!([
            {"customer_id": "1", "region": "north", "tier": "gold", "spent_cents": 10},
            {"customer_id": "2", "region": "north", "tier": "bronze", "spent_cents": 5},
        ]);
        let result = transform_customers(&after("extract_customers", &records))
            .expect("the records are good");
        assert_eq!(result["spent_cents"], 15);
        assert_eq!(result["customers_by_tier"], json!({"bronze": 1, "gold": 1}));
        assert_eq!(result["customers_by_region"], json!({"north": 2}));
    }

    #[test]
    fn sums_out_of_range_are_refused_for_good() {
        let customer =
            json!({"customer_id": "1", "region": "north", "tier": "gold", "spent_cents": u64::MAX});
        let error = transform_customers(&after("extract_customers", &json!([customer, customer])));
        assert!(!error.expect_err("the sum is too large").is_retryable());
    }
}
