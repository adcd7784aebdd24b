//! Sample records: the same seed gives the same ones, everywhere.

use super::{Customer, Sale, Stock};

const SKUS: &[&str] = &["kettle", "mug", "tea", "teapot", "tray"];
const REGIONS: &[&str] = &["east", "north", "south", "west"];
const TIERS: &[&str] = &["bronze", "gold", "silver"];

/// A stream of numbers that looks random (splitmix64: <https://prng.di.unimi.it/splitmix64.c>).
pub(super) struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of `seed` for one source; streams of different sources differ.
    pub(super) fn new(seed: u64, source: &str) -> Self {
        let state = source.bytes().fold(seed, |state, byte| {
            state.wrapping_mul(257).wrapping_add(u64::from(byte))
        });
        Self { state }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[(self.next() % choices.len() as u64) as usize]
    }
}

pub(super) fn sale(stream: &mut Stream, number: usize) -> Sale {
    Sale {
        order_id: format!("order_{number:05}"),
        sku: stream.one_of(SKUS).into(),
        region: stream.one_of(REGIONS).into(),
        quantity: stream.between(1, 9),
        price_cents: stream.between(2, 60) * 50 - 1,
    }
}

pub(super) fn stock(stream: &mut Stream, number: usize) -> Stock {
    // Every sku in every warehouse, as far as the count of records goes.
    let sku = SKUS[number % SKUS.len()];
    let warehouse = REGIONS[number / SKUS.len() % REGIONS.len()];
    Stock {
        sku: sku.into(),
        warehouse: warehouse.into(),
        on_hand: stream.between(0, 120),
        reorder_at: 20,
    }
}

pub(super) fn customer(stream: &mut Stream, number: usize) -> Customer {
    Customer {
        customer_id: format!("customer_{number:05}"),
        region: stream.one_of(REGIONS).into(),
        tier: stream.one_of(TIERS).into(),
        spent_cents: stream.between(0, 500_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_records_and_another_seed_others() {
        let drawn = |seed| {
            let mut stream = Stream::new(seed, "sales");
            (0..20)
                .map(|number| format!("{:?}", sale(&mut stream, number)))
                .collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn numbers_stay_between_their_bounds() {
        let mut stream = Stream::new(7, "bounds");
        assert!(
            (0..1000)
                .map(|_| stream.between(3, 5))
                .all(|number| (3..=5).contains(&number))
        );
    }
}
