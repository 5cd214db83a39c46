//! Proves that calls with items and a key accept all usual forms: closures, functions and methods, over
//! borrowed or owned items.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use datapool_store::{
    ClaimOptions, CompositeKey, EntityTypeId, FlowId, FlowRunId, Key, Mode, Origin, Pool, RecordFilter,
    RecordQuery,
};
use proptest::prelude::*;

use crate::support::{Need, pool_for};

const ORDERS: EntityTypeId = EntityTypeId::new(37);
const MINUTE: Duration = Duration::from_mins(1);

#[derive(Clone)]
struct Order {
    number: String,
    shop: &'static str,
    line: u32,
}

impl Order {
    fn key(&self) -> Key<'_> {
        Key::new(ORDERS, &self.number)
    }

    fn line_key(&self) -> Key<'static> {
        Key::new(ORDERS, CompositeKey::new().text(self.shop).integer(self.line))
    }
}

trait Keyed {
    fn key(&self) -> Key<'_>;
}

impl Keyed for Order {
    fn key(&self) -> Key<'_> {
        Self::key(self)
    }
}

fn order(line: u32) -> Order {
    Order { number: format!("A-{line}"), shop: "shop", line }
}

fn key_of(order: &Order) -> Key<'_> {
    order.key()
}

fn key_with_a_name<'order>(order: &'order Order) -> Key<'order>
where
    'order: 'order,
{
    order.key()
}

/// Tracks the items. Each caller brings two, one of which the caller before has tracked.
fn new_ones<'items, 'key, T>(
    pool: &Pool,
    items: &'items [T],
    key: impl FnMut(&'items T) -> Key<'key>,
) -> usize {
    pool.dedupe(Mode::FilterAndTrack, items, key, &Origin::none()).unwrap().new_count()
}

#[test]
fn a_closure_can_borrow_from_each_kind_of_item() {
    let pool = pool_for(Need::Any);
    let values: Vec<String> = (0..20).map(|number| format!("A-{number}")).collect();
    let [first, second, third, ..] = values.as_slice() else { unreachable!() };

    assert_eq!(new_ones(&pool, &values[..2], |value| Key::new(37, value)), 2, "a String");
    assert_eq!(new_ones(&pool, &values[1..3], |value| Key::new(37, value.as_str())), 1);
    assert_eq!(
        new_ones(&pool, &[first.as_str(), second, third, "A-3"], |value| Key::new(37, *value)),
        1,
        "a &str"
    );
    assert_eq!(new_ones(&pool, &[third, &values[4]], |value| Key::new(37, *value)), 1, "a &String");
    assert_eq!(new_ones(&pool, &[("A-4", 1), ("A-5", 2)], |(value, _)| Key::new(37, *value)), 1, "a tuple");
    let owned = [(String::from("A-5"), 1), (String::from("A-6"), 2)];
    assert_eq!(new_ones(&pool, &owned, |(value, _)| Key::new(37, value)), 1);
    let cows = [Cow::Borrowed("A-6"), Cow::Owned(String::from("A-7"))];
    assert_eq!(new_ones(&pool, &cows, |value: &Cow<'_, str>| Key::new(37, value.as_ref())), 1, "a Cow");
    let shared: [Arc<str>; 2] = ["A-7".into(), "A-8".into()];
    assert_eq!(new_ones(&pool, &shared, |value| Key::new(37, &**value)), 1, "an Arc<str>");
    let orders = vec![order(8), order(9)];
    assert_eq!(new_ones(&pool, &orders, |order| Key::new(37, &order.number)), 1, "a struct");
    assert_eq!(new_ones(&pool, &[&orders[1], &order(10)], |order| Key::new(37, &order.number)), 1);
    assert_eq!(new_ones(&pool, &["A-9", "A-10"], |value| Key::new(37, value)), 0, "a &&str");
    let boxed = [Box::new(order(10)), Box::new(order(11))];
    assert_eq!(new_ones(&pool, &boxed, |order| order.key()), 1, "a box");
    let split: Vec<&str> = "A-11,A-12".split(',').collect();
    assert_eq!(new_ones(&pool, &split, |value| Key::new(37, *value)), 1, "part of a text");
}

#[test]
fn a_key_can_be_made_for_each_item() {
    let pool = pool_for(Need::Any);
    let flights = [("UA", 1545, "EWR"), ("UA", 1714, "LGA")];
    let key =
        |flight: &(&str, i32, &str)| CompositeKey::new().text(flight.0).integer(flight.1).text(flight.2);
    assert_eq!(new_ones(&pool, &flights, |flight| Key::new(37, key(flight))), 2);
    assert_eq!(new_ones(&pool, &["a-1", "A-1"], |value| Key::new(37, value.to_uppercase())), 1);
    let orders = [order(1), order(2)];
    assert_eq!(
        new_ones(&pool, &orders, |order| Key::new(order.line, format!("{}/{}", order.shop, order.line))),
        2
    );
    // The key does not borrow from the item, which may be dropped first.
    assert_eq!(new_ones(&pool, &orders, Order::line_key), 2);
}

#[test]
fn an_integer_is_the_value_of_its_digits() {
    let pool = pool_for(Need::Any);
    assert_eq!(new_ones(&pool, &[1545_u64, 1714], |number| Key::new(37, *number)), 2);
    assert_eq!(new_ones(&pool, &[1714_u64, 1715], |number| Key::new(37, number)), 1);
    assert_eq!(new_ones(&pool, &["1545", "1716"], |number| Key::new(37, *number)), 1);
    assert!(pool.contains(Key::new(37, 1545)).unwrap() && pool.contains(Key::new(37, "1715")).unwrap());
    let listed = pool.records(&RecordQuery::new().value(1545_u16).value("1714")).unwrap();
    assert_eq!(listed.meta.total, 2);
}

#[test]
fn an_integer_is_the_id_of_its_digits() {
    let pool = pool_for(Need::Any);
    let origin = Origin::new(12_u64, 7_i32, usize::MAX);
    assert_eq!(origin, Origin::new("12", "7", usize::MAX.to_string()));
    let _ = pool.dedupe(Mode::Track, &["A-1"], |value| Key::new(37, *value), &origin).unwrap();
    let filter = RecordFilter::new().flow_id(12).flow_run_id(7_u8).step_id(origin.step().unwrap());
    assert_eq!(pool.count(&filter).unwrap(), 1);
}

proptest! {
    #[test]
    fn an_integer_of_any_type_reads_as_its_digits(number: i64, large: u128, small: i8) {
        prop_assert_eq!(Key::new(37, number), Key::new(37, number.to_string()));
        prop_assert_eq!(Key::new(37, large), Key::new(37, large.to_string()));
        prop_assert_eq!(Key::new(37, small), Key::new(37, small.to_string()));
        prop_assert_eq!(FlowId::from(number), FlowId::from(number.to_string()));
        prop_assert_eq!(FlowRunId::from(large), FlowRunId::from(large.to_string()));
    }
}

#[test]
fn functions_and_methods_are_keys() {
    let pool = pool_for(Need::Any);
    let orders: Vec<Order> = (0..20).map(order).collect();
    assert_eq!(new_ones(&pool, &orders[..2], Order::key), 2);
    assert_eq!(new_ones(&pool, &orders[1..3], key_of), 1);
    assert_eq!(new_ones(&pool, &orders[2..4], key_with_a_name), 1);
    assert_eq!(new_ones(&pool, &orders[3..5], Keyed::key), 1);
    assert_eq!(new_ones(&pool, &orders[4..6], <Order as Keyed>::key), 1);
    let pointer: fn(&Order) -> Key<'_> = Order::key;
    assert_eq!(new_ones(&pool, &orders[5..7], pointer), 1);
    let boxed: Box<dyn Fn(&Order) -> Key<'_>> = Box::new(|order| Key::new(37, &order.number));
    assert_eq!(new_ones(&pool, &orders[6..8], &boxed), 1);
    assert_eq!(new_ones(&pool, &orders[7..9], &*boxed), 1);
    assert_eq!(new_ones(&pool, &orders[8..10], boxed), 1);
    let by = |get: fn(&Order) -> &str| move |order: &Order| Key::new(37, get(order).to_owned());
    assert_eq!(new_ones(&pool, &orders[9..11], by(|order| &order.number)), 1);
}

#[test]
fn a_key_may_come_from_elsewhere_and_count_its_calls() {
    let pool = pool_for(Need::Any);
    let names: HashMap<u32, String> = (0..5).map(|number| (number, format!("A-{number}"))).collect();
    let mut calls = 0;
    let looked_up = |number: &u32| {
        calls += 1;
        Key::new(37, &names[number])
    };
    assert_eq!(new_ones(&pool, &[1, 2, 3], looked_up), 3);
    assert_eq!(calls, 3);
}

/// A type of the calling program that returns the key of its items.
struct Step<T, F: Fn(&T) -> Key<'_>> {
    pool: Pool,
    key: F,
    seen: Vec<T>,
}

impl<T: Clone, F: Fn(&T) -> Key<'_>> Step<T, F> {
    fn run(&mut self, items: &[T]) -> usize {
        let verdicts =
            self.pool.dedupe_with_first(Mode::FilterAndTrack, items, &self.key, &Origin::none()).unwrap();
        self.seen.extend(verdicts.pass_on(items).into_iter().cloned());
        let again = self.pool.dedupe(Mode::Filter, &self.seen, &self.key, &Origin::none()).unwrap();
        assert_eq!(again.new_count(), 0);
        verdicts.new_count()
    }
}

fn run_all<T: Keyed>(pool: &Pool, batches: &[Vec<T>]) -> usize {
    batches.iter().map(|batch| new_ones(pool, batch, T::key)).sum()
}

#[test]
fn a_program_can_wrap_the_calls() {
    let pool = pool_for(Need::Any);
    let mut step = Step { pool: pool.clone(), key: Order::key, seen: Vec::new() };
    assert_eq!((step.run(&[order(1), order(2)]), step.run(&[order(2), order(3)])), (2, 1));
    let mut step =
        Step { pool: pool.clone(), key: |value: &String| Key::new(38, value.clone()), seen: Vec::new() };
    assert_eq!(step.run(&[String::from("A-1")]), 1);
    assert_eq!(run_all(&pool, &[vec![order(3), order(4)], vec![order(4), order(5)]]), 2);
}

#[test]
fn one_closure_serves_several_calls() {
    let pool = pool_for(Need::Any);
    let key = |value: &&'static str| Key::new(ORDERS, *value);
    assert_eq!(new_ones(&pool, &["A-1", "A-2"], key), 2);
    assert_eq!(new_ones(&pool, &["A-2", "A-3"], &key), 1);
    let mut claim = pool.claim(&["A-3", "A-4"], &key, &Origin::none(), MINUTE).unwrap();
    assert_eq!(claim.held_count(), 1);
    claim.confirm().unwrap().all_confirmed().unwrap();
    let claim = pool.claim_with(&["A-4", "A-5"], &key, &Origin::none(), &ClaimOptions::new()).unwrap();
    assert_eq!(claim.held_count(), 1);

    // The lifetime of the items is inferred from both calls.
    let (first, second) = (vec![order(10), order(11)], vec![order(11), order(12)]);
    let key = |order| Order::key(order);
    assert_eq!((new_ones(&pool, &first, &key), new_ones(&pool, &second, &key)), (2, 1));

    // A method of the items can be used for calls between which they change.
    let mut orders = first;
    assert_eq!(new_ones(&pool, &orders, Order::key), 0);
    orders.push(order(13));
    let claim = pool.claim(&orders, Order::key, &Origin::none(), MINUTE).unwrap();
    orders.clear();
    assert_eq!(claim.held_count(), 1);
    let lines = [order(20), order(21)];
    assert_eq!(
        pool.claim_with(&lines, Order::line_key, &Origin::none(), &ClaimOptions::new()).unwrap().held_count(),
        2
    );
}
