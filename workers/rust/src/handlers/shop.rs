//! `shop.*`: an order is checked, its stock reserved, its payment taken; it is shipped and the
//! customer told.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tasker_worker_runtime::{HandlerError, StepContext};

use super::HandlerResult;
use super::money;
use super::reference::{choice, reference};

const WAREHOUSES: &[&str] = &["north", "south", "east", "west"];
const CARRIERS: &[&str] = &["roadrunner", "bluebird", "tortoise"];
const ITEMS_IN_A_PACKAGE: u64 = 10;

#[derive(Deserialize)]
struct Order {
    order_id: String,
    customer_email: String,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    sku: String,
    quantity: u64,
    price_cents: u64,
}

#[derive(Serialize, Deserialize)]
struct ValidOrder {
    order_id: String,
    customer_email: String,
    total_cents: u64,
    items: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    sku: String,
    quantity: u64,
    price_cents: u64,
    line_total_cents: u64,
}

#[derive(Serialize, Deserialize)]
struct Reservations {
    reservations: Vec<Reservation>,
}

#[derive(Serialize, Deserialize)]
struct Reservation {
    reservation_id: String,
    sku: String,
    quantity: u64,
    warehouse: String,
}

/// Checks the order of the context line by line and adds it up.
pub(crate) fn validate_order(step: &StepContext) -> HandlerResult {
    let order: Order = step.context_as()?;
    if order.order_id.trim().is_empty() {
        return Err(invalid("the order has no id"));
    }
    if !order.customer_email.contains('@') {
        return Err(invalid("the customer's address has no `@`"));
    }
    if order.items.is_empty() {
        return Err(invalid("the order has no items"));
    }
    let items = order
        .items
        .iter()
        .enumerate()
        .map(line)
        .collect::<Result<Vec<_>, _>>()?;
    let total_cents = money::sum(items.iter().map(|line| line.line_total_cents))?;
    let Order {
        order_id,
        customer_email,
        ..
    } = order;
    Ok(serde_json::to_value(ValidOrder {
        order_id,
        customer_email,
        total_cents,
        items,
    })?)
}

fn line((index, item): (usize, &Item)) -> Result<Line, HandlerError> {
    let Item {
        sku,
        quantity,
        price_cents,
    } = item;
    let (sku, quantity, price_cents) = (sku.clone(), *quantity, *price_cents);
    if sku.trim().is_empty() {
        return Err(invalid(format!("items[{index}] has no sku")));
    }
    if quantity == 0 {
        return Err(invalid(format!("items[{index}] has a quantity of zero")));
    }
    Ok(Line {
        line_total_cents: money::times(price_cents, quantity)?,
        sku,
        quantity,
        price_cents,
    })
}

/// Reserves each line in a warehouse. A sku named in the context's `out_of_stock` can't be had.
pub(crate) fn reserve_inventory(step: &StepContext) -> HandlerResult {
    let order: ValidOrder = step.dependency("validate_order")?;
    let out_of_stock: Vec<String> = step
        .optional_context_field("out_of_stock")?
        .unwrap_or_default();
    let missing: Vec<_> = order
        .items
        .iter()
        .map(|line| &line.sku)
        .filter(|sku| out_of_stock.contains(sku))
        .collect();
    if !missing.is_empty() {
        return Err(HandlerError::permanent("not everything is in stock")
            .with_type("out_of_stock")
            .with_detail(json!({"skus": missing})));
    }
    let reservations = order.items.iter().map(|line| Reservation {
        reservation_id: reference(
            "res",
            &[&order.order_id, &line.sku, &line.quantity.to_string()],
        ),
        sku: line.sku.clone(),
        quantity: line.quantity,
        warehouse: choice(WAREHOUSES, &[&line.sku]).into(),
    });
    Ok(serde_json::to_value(Reservations {
        reservations: reservations.collect(),
    })?)
}

/// Takes the payment: what is reserved must cost what the order says. `card_declined: true` in the
/// context declines the card.
pub(crate) fn process_payment(step: &StepContext) -> HandlerResult {
    let order: ValidOrder = step.dependency("validate_order")?;
    let reserved: Reservations = step.dependency("reserve_inventory")?;
    let reserved_cents = price_of(&order, &reserved)?;
    if reserved_cents != order.total_cents {
        return Err(
            HandlerError::permanent("the reserved items don't cost what the order says")
                .with_type("amount_mismatch")
                .with_detail(
                    json!({"total_cents": order.total_cents, "reserved_cents": reserved_cents}),
                ),
        );
    }
    if step
        .optional_context_field("card_declined")?
        .unwrap_or(false)
    {
        return Err(HandlerError::permanent("the card was declined").with_type("card_declined"));
    }
    Ok(json!({
        "payment_id": reference("pay", &[&order.order_id, &order.total_cents.to_string()]),
        "order_id": order.order_id,
        "amount_cents": order.total_cents,
        "status": "captured",
    }))
}

fn price_of(order: &ValidOrder, reserved: &Reservations) -> Result<u64, HandlerError> {
    let mut amounts = Vec::with_capacity(reserved.reservations.len());
    if reserved.reservations.len() != order.items.len() {
        return Err(
            HandlerError::permanent("not every line of the order is reserved")
                .with_type("amount_mismatch"),
        );
    }
    for (line, reservation) in order.items.iter().zip(&reserved.reservations) {
        if line.sku != reservation.sku {
            let message = format!(
                "`{}` is reserved where `{}` was ordered",
                reservation.sku, line.sku
            );
            return Err(HandlerError::permanent(message).with_type("amount_mismatch"));
        }
        amounts.push(money::times(line.price_cents, reservation.quantity)?);
    }
    money::sum(amounts)
}

/// Packs what was reserved and hands it to a carrier, once it is paid.
pub(crate) fn ship_order(step: &StepContext) -> HandlerResult {
    let order: ValidOrder = step.dependency("validate_order")?;
    let reserved: Reservations = step.dependency("reserve_inventory")?;
    let payment: Value = step.dependency("process_payment")?;
    if payment["status"] != "captured" {
        return Err(
            HandlerError::permanent("an order is shipped when its payment is captured")
                .with_type("not_paid"),
        );
    }
    let payment_id = payment["payment_id"].as_str().unwrap_or_default();
    let pieces = money::sum(
        reserved
            .reservations
            .iter()
            .map(|reservation| reservation.quantity),
    )?;
    let mut from: Vec<_> = reserved
        .reservations
        .iter()
        .map(|reservation| reservation.warehouse.as_str())
        .collect();
    from.sort_unstable();
    from.dedup();
    Ok(json!({
        "order_id": order.order_id,
        "tracking_number": reference("trk", &[&order.order_id, payment_id]),
        "carrier": choice(CARRIERS, &[&order.order_id]),
        "pieces": pieces,
        "packages": pieces.div_ceil(ITEMS_IN_A_PACKAGE),
        "from_warehouses": from,
    }))
}

/// Writes the message that tells the customer where the order is.
pub(crate) fn notify_customer(step: &StepContext) -> HandlerResult {
    #[derive(Deserialize)]
    struct Shipment {
        order_id: String,
        tracking_number: String,
        carrier: String,
        packages: u64,
    }
    let to: String = step.context_field("customer_email")?;
    let shipment: Shipment = step.dependency("ship_order")?;
    let packages = match shipment.packages {
        1 => "one package".into(),
        count => format!("{count} packages"),
    };
    let Shipment {
        order_id,
        tracking_number,
        carrier,
        ..
    } = shipment;
    Ok(json!({
        "to": to,
        "subject": format!("Your order {order_id} is on its way"),
        "message": format!("{packages} with {carrier}, tracking number {tracking_number}"),
    }))
}

fn invalid(message: impl Into<String>) -> HandlerError {
    HandlerError::permanent(message).with_type("invalid_order")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Value {
        json!({
            "order_id": "A-1",
            "customer_email": "ada@example.org",
            "items": [
                {"sku": "mug", "quantity": 2, "price_cents": 1250},
                {"sku": "tea", "quantity": 12, "price_cents": 399},
            ],
        })
    }

    fn with(mut context: Value, field: &str, value: Value) -> Value {
        context[field] = value;
        context
    }

    fn validated(context: &Value) -> HandlerResult {
        validate_order(
            &StepContext::draft("validate_order", "shop.validate_order")
                .with_context(context.clone()),
        )
    }

    fn after(context: &Value, dependencies: &[(&str, &Value)]) -> StepContext {
        let step = StepContext::draft("step", "shop").with_context(context.clone());
        dependencies.iter().fold(step, |step, (name, result)| {
            step.with_dependency(name, (*result).clone())
        })
    }

    #[test]
    fn an_order_goes_from_its_check_to_the_message() {
        let context = order();
        let valid = validated(&context).expect("the order is good");
        assert_eq!(valid["total_cents"], 2 * 1250 + 12 * 399);
        assert_eq!(valid["items"][1]["line_total_cents"], 4788);
        let reserved = reserve_inventory(&after(&context, &[("validate_order", &valid)]))
            .expect("there is stock");
        assert_eq!(reserved["reservations"].as_array().map(Vec::len), Some(2));
        let both = [("validate_order", &valid), ("reserve_inventory", &reserved)];
        let paid = process_payment(&after(&context, &both)).expect("the card is good");
        assert_eq!(paid["amount_cents"], 7288);
        let all = [both[0], both[1], ("process_payment", &paid)];
        let shipped = ship_order(&after(&context, &all)).expect("it is paid");
        assert_eq!(
            (&shipped["pieces"], &shipped["packages"]),
            (&json!(14), &json!(2))
        );
        let told =
            notify_customer(&after(&context, &[("ship_order", &shipped)])).expect("it is shipped");
        assert_eq!(told["to"], "ada@example.org");
        assert_eq!(told["subject"], "Your order A-1 is on its way");
    }

    #[test]
    fn the_same_order_gets_the_same_reservations_and_payment() {
        let context = order();
        let valid = validated(&context).expect("the order is good");
        let reserve = || reserve_inventory(&after(&context, &[("validate_order", &valid)]));
        assert_eq!(reserve(), reserve());
    }

    #[test]
    fn a_bad_order_is_refused_for_good_with_its_reason() {
        let no_quantity = json!([{"sku": "mug", "quantity": 0, "price_cents": 1}]);
        let dear = json!([{"sku": "mug", "quantity": 2, "price_cents": u64::MAX}]);
        for (context, said) in [
            (with(order(), "order_id", json!(" ")), "the order has no id"),
            (
                with(order(), "customer_email", json!("ada")),
                "the customer's address has no `@`",
            ),
            (with(order(), "items", json!([])), "the order has no items"),
            (
                with(order(), "items", no_quantity),
                "items[0] has a quantity of zero",
            ),
            (with(order(), "items", dear), "the amount is too large"),
        ] {
            let error = validated(&context).expect_err("the order is bad");
            assert_eq!((error.message(), error.is_retryable()), (said, false));
        }
    }

    #[test]
    fn missing_stock_a_declined_card_and_a_wrong_amount_end_the_step() {
        let context = with(
            with(order(), "out_of_stock", json!(["tea"])),
            "card_declined",
            json!(true),
        );
        let valid = validated(&context).expect("the order is good");
        let step = after(&context, &[("validate_order", &valid)]);
        let error = reserve_inventory(&step).expect_err("no tea");
        assert_eq!(error.error_type(), Some("out_of_stock"));
        assert_eq!(error.detail(), Some(&json!({"skus": ["tea"]})));

        let reserved = reserve_inventory(&after(&order(), &[("validate_order", &valid)]))
            .expect("there is stock");
        let step = after(
            &context,
            &[("validate_order", &valid), ("reserve_inventory", &reserved)],
        );
        assert_eq!(
            process_payment(&step).expect_err("declined").error_type(),
            Some("card_declined")
        );

        let mut short = reserved;
        short["reservations"][0]["quantity"] = json!(1);
        let step = after(
            &order(),
            &[("validate_order", &valid), ("reserve_inventory", &short)],
        );
        let error = process_payment(&step).expect_err("one mug is missing");
        assert_eq!(error.error_type(), Some("amount_mismatch"));
        assert!(!error.is_retryable());
    }
}
