//! The rows of the group `listing`: filtered pages and totals, deep and shallow. Also those of the group
//! `values`: pages by value, for which SQLite's additional index is of no use.
//!
//! Always holds: before a row is measured, all engines have returned the same records and the same total for
//! it.

use std::path::Path;

use datapool_store::{Pool, RecordQuery};

use crate::Result;
use crate::answer::Page;
use crate::common::{ENTITY_TYPES, FLOWS, Random, flow, step};
use crate::data::{DataSet, Kind, Size, run_id, time_of};
use crate::files::Setting;
use crate::measure::{Contender, Spread, alternate};
use crate::query::{Filter, Include, Listing};
use crate::report::{Report, Unit};
use crate::sqlite::{Asked, Sqlite};
use crate::store;

const PER_PAGE: u32 = 15;
const PER_LARGE_PAGE: u32 = 50;
/// The number of the deep page at 10M. At other sizes it is in proportion.
const DEEP_PAGE: usize = 50_000;
/// The number of values and of runs that are queried in turn.
const TERMS: usize = 512;

const ENGINES: [&str; 3] = ["store", "SQLite", "SQLite + index"];

/// A row of the table: listings of the same kind, queried in turn.
#[derive(Debug)]
struct Row {
    name: &'static str,
    listings: Vec<Listing>,
}

/// Measures the rows of pages by value.
pub(crate) fn by_value(Setting { size, directory }: Setting<'_>) -> Result<Report> {
    let engines = Engines::open(size.random(), directory)?;
    let mut report = Report::new("values", format!("Pages by value, {} records", size.name()));
    for row in rows_by_value(size) {
        engines.page(&row, &mut report)?;
    }
    Ok(report)
}

/// Measures the rows of all other pages.
pub(crate) fn run(Setting { size, directory }: Setting<'_>) -> Result<Report> {
    let mut engines = Engines::open(size.random(), directory)?;
    engines.indexed = Some(Sqlite::open_with_listing_index(directory, size.random())?);
    let mut report = Report::new("listing", format!("Listing, {} records", size.name()));
    for row in rows(size, &engines.store)? {
        engines.page(&row, &mut report)?;
    }
    engines.count("total of all", &Filter::default(), &mut report)?;
    drop(engines);
    let set = DataSet { kind: Kind::RunPerRecord, size };
    let mut engines = Engines::open(set, directory)?;
    engines.indexed = Some(Sqlite::open_with_listing_index(directory, set)?);
    let step = Listing { per_page: PER_LARGE_PAGE, ..first_page(one_step()) };
    let listings = vec![middle_page(&engines.store, step)?];
    engines.page(&Row { name: "the same with a run for each record", listings }, &mut report)?;
    Ok(report)
}

/// Returns the times for a page from the middle by three filters: the store's, and if requested, SQLite's
/// with an index for each column.
pub(crate) fn filtered_page(
    Setting { size, directory }: Setting<'_>,
    with_sqlite: bool,
) -> Result<Vec<Spread>> {
    let store = store::open(directory, size.random())?;
    let listing = middle_page(&store, Listing { per_page: PER_LARGE_PAGE, ..first_page(one_step()) })?;
    let own = listing.to_store();
    let by_store = Contender::new(|_| Ok(store.records(&own)?));
    if !with_sqlite {
        return alternate(vec![by_store]);
    }
    let plain = Sqlite::open(directory, size.random())?;
    let asked = plain.fastest_way(&listing)?.ask(&listing);
    assert_eq!(plain.page(&asked)?, Page::from(&store.records(&own)?));
    alternate(vec![by_store, Contender::new(|_| plain.page(&asked))])
}

// ---- Rows -----------------------------------------------------------------------------------------------------

fn rows(size: Size, pool: &Pool) -> Result<Vec<Row>> {
    let deep = |filter| Listing {
        page: (DEEP_PAGE * size.records() / Size::TEN_MILLION.records()) as u64,
        ..first_page(filter)
    };
    let step = middle_page(pool, Listing { per_page: PER_LARGE_PAGE, ..first_page(one_step()) })?;
    let included = |listing| Listing { include: Include::All, ..listing };
    let all = middle_page(pool, first_page(Filter::default()))?;
    let row = |name, listings| Row { name, listings };
    Ok(vec![
        row("deep page, one type and a time window", vec![deep(type_and_times(size))]),
        row("deep page, 10 flows, 3 types and a start", vec![deep(flows_types_and_start(size))]),
        row("deep page, 5 flows, 10 steps and 3 types", vec![deep(many_steps())]),
        row("middle page, one flow, step and type", vec![step.clone()]),
        row("the same with five includes", vec![included(step)]),
        row("middle page of all", vec![all]),
        row("page by one run", by_runs(size)),
    ])
}

fn rows_by_value(size: Size) -> Vec<Row> {
    let typed = |listing: Listing| {
        let filter = Filter { entity_types: ENTITY_TYPES.to_vec(), ..listing.filter };
        Listing { filter, ..listing }
    };
    let row = |name, listings| Row { name, listings };
    let (one, fifty) = (by_values(size), scattered(size));
    vec![
        row("one value", one.clone()),
        row("one value, of some entity types", one.into_iter().map(typed).collect()),
        row("50 values of as many runs", vec![fifty.clone()]),
        row("50 values, of some entity types", vec![typed(fifty.clone())]),
        row("50 values with five includes", vec![Listing { include: Include::All, ..fifty }]),
    ]
}

fn first_page(filter: Filter) -> Listing {
    Listing { filter, page: 1, per_page: PER_PAGE, include: Include::Nothing }
}

fn middle_page(pool: &Pool, listing: Listing) -> Result<Listing> {
    let total = pool.count(&listing.filter.to_store())?;
    Ok(Listing { page: total / u64::from(listing.per_page) / 2 + 1, ..listing })
}

/// Returns a filter for one of six entity types in the middle 80 % of the time: 2 records in 15.
fn type_and_times(size: Size) -> Filter {
    let runs = size.run_count();
    Filter {
        entity_types: vec![37],
        after: Some(time_of(runs / 10)),
        before: Some(time_of(runs / 10 * 9)),
        ..Filter::default()
    }
}

/// Returns a filter for ten of twenty flows and three of six entity types in the last 90 % of the time: 9
/// records in 40.
fn flows_types_and_start(size: Size) -> Filter {
    Filter {
        entity_types: vec![37, 54, 68],
        flows: (0..FLOWS).step_by(2).map(flow).collect(),
        after: Some(time_of(size.run_count() / 10)),
        ..Filter::default()
    }
}

/// Returns a filter for five of twenty flows, two of three steps of each, and three of six entity types: 1
/// record in 12.
fn many_steps() -> Filter {
    let flows = [1, 5, 9, 13, 17];
    Filter {
        entity_types: vec![37, 54, 68],
        flows: flows.map(flow).to_vec(),
        steps: flows.into_iter().flat_map(|run| [step(run), step(run + FLOWS)]).collect(),
        ..Filter::default()
    }
}

/// Returns a filter for one step of one flow and one entity type: 1 record in 360.
fn one_step() -> Filter {
    Filter { entity_types: vec![37], flows: vec![flow(7)], steps: vec![step(7)], ..Filter::default() }
}

/// Returns a page of records that are far apart. Each has its own run, which an include must resolve.
fn scattered(size: Size) -> Listing {
    let values = size.some_values(PER_LARGE_PAGE as usize);
    Listing { per_page: PER_LARGE_PAGE, ..first_page(Filter { values, ..Filter::default() }) }
}

fn by_values(size: Size) -> Vec<Listing> {
    let filter = |value| Filter { values: vec![value], ..Filter::default() };
    let mut values = size.some_values(TERMS);
    // In the order of their ids, each value would find its neighbours' pages cached.
    Random(3).shuffle(&mut values);
    values.into_iter().map(filter).map(first_page).collect()
}

fn by_runs(size: Size) -> Vec<Listing> {
    let filter = |run| Filter { runs: vec![run_id(run)], ..Filter::default() };
    let mut random = Random(3);
    (0..TERMS).map(|_| first_page(filter(random.below(size.run_count())))).collect()
}

// ---- Measuring ------------------------------------------------------------------------------------------------

/// The engines compared: the store, and SQLite without and with an index for these listings.
struct Engines {
    store: Pool,
    plain: Sqlite,
    indexed: Option<Sqlite>,
}

impl Engines {
    fn open(set: DataSet, directory: &Path) -> Result<Self> {
        let store = store::open(directory, set)?;
        let plain = Sqlite::open(directory, set)?;
        Ok(Self { store, plain, indexed: None })
    }

    fn count(&self, name: &str, filter: &Filter, report: &mut Report) -> Result<()> {
        eprintln!("measuring: {name}");
        let own = filter.to_store();
        let total = self.store.count(&own)?;
        let mut contenders = vec![Contender::new(|_| Ok(self.store.count(&own)?))];
        for rival in self.rivals() {
            let count = rival.fastest_count(filter)?;
            assert_eq!(rival.count(&count)?, total, "{name}");
            contenders.push(Contender::new(move |_| rival.count(&count)));
        }
        let timings = alternate(contenders)?;
        report.row(name, Unit::Time, ENGINES.into_iter().zip(timings));
        Ok(())
    }

    fn rivals(&self) -> impl Iterator<Item = &Sqlite> {
        std::iter::once(&self.plain).chain(&self.indexed)
    }

    fn page(&self, Row { name, listings }: &Row, report: &mut Report) -> Result<()> {
        eprintln!("measuring: {name}");
        let first = listings.first().ok_or("a row has a listing")?;
        let own: Vec<RecordQuery> = listings.iter().map(Listing::to_store).collect();
        let pages = own.iter().map(|query| Ok(Page::from(&self.store.records(query)?)));
        let pages = pages.collect::<Result<Vec<Page>>>()?;
        for (page, listing) in pages.iter().zip(listings) {
            assert!(!page.rows.is_empty(), "{name}: the page is empty, and says little");
            assert!(page.rows.iter().all(|row| row.is_complete(listing.include)), "{name}: {page:?}");
        }
        let mut contenders = vec![Contender::new(|number| {
            Ok(self.store.records(own.get(number % own.len()).ok_or("a row has a query")?)?)
        })];
        let mut ways = Vec::new();
        for rival in self.rivals() {
            let way = rival.fastest_way(first)?;
            let asked: Vec<Asked> = listings.iter().map(|listing| way.ask(listing)).collect();
            for (asked, page) in asked.iter().zip(&pages) {
                assert_eq!(rival.page(asked)?, *page, "{name}");
            }
            contenders.push(Contender::new(move |number| {
                rival.page(asked.get(number % asked.len()).ok_or("a row has a query")?)
            }));
            ways.push(way.to_string());
        }
        let timings = alternate(contenders)?;
        let total = pages.last().map_or(0, |page| page.total);
        report.row(format!("{name}: {}", place(first, total)), Unit::Time, ENGINES.into_iter().zip(timings));
        report.note(format!("{name}: SQLite: {}.", ways.join(". With the index: ")));
        Ok(())
    }
}

/// Returns the positions of a page's records as text.
fn place(listing: &Listing, total: u64) -> String {
    let (first, end) = (listing.skip() + 1, listing.skip() + u64::from(listing.per_page));
    format!("{first} to {} of {total}", end.min(total))
}
