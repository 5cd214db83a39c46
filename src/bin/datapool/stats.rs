//! Statistics of the store and its pools: as tables and bar charts, or as JSON.

mod calendar;
mod chart;
mod figures;

use datapool_store::{DataPoolStore, PoolStats, SegmentFill};

use self::calendar::Scale;
use self::chart::{Chart, Row};
use self::figures::{PoolFigures, PoolSums, StoreFigures};
use crate::failure::Failure;
use crate::format::Format;
use crate::grid::{Column, Grid};
use crate::open::{self, StoreFile};
use crate::output;

/// Up to this many pools, each is shown in detail.
const POOLS_MAX_DETAILED: usize = 20;
/// If there are more pools, this many of the largest are shown in detail.
const LARGEST_POOLS: usize = 10;
/// The most pools in the table.
const POOLS_MAX_LISTED: usize = 50;
/// The most entity types or flows with a bar of their own.
const SHARES_MAX: usize = 10;
/// The most segments with a bar.
const SEGMENTS_MAX: usize = 20;

pub(crate) fn of_store(file: &StoreFile, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => {
            let figures = open::to_read(file, StoreFigures::gather)?;
            output::json(&figures.to_json()?)
        }
        Format::Human => {
            let text = open::to_read(file, |store| describe_store(store, file))?;
            output::lines([text])
        }
    }
}

pub(crate) fn of_pool(file: &StoreFile, pool: &str, format: Format) -> Result<(), Failure> {
    let figures = open::to_read(file, |store| PoolFigures::gather(store, &open::pool(store, file, pool)?))?;
    match format {
        Format::Json => output::json(&figures),
        Format::Human => output::lines([describe_pool(&figures)]),
    }
}

fn describe_store(store: &DataPoolStore, file: &StoreFile) -> Result<String, Failure> {
    let mut pools = figures::all_pools(store)?;
    // The largest first; among equals, the older one first.
    pools.sort_by_key(|pool| (std::cmp::Reverse(pool.stats.live), pool.id));
    let mut parts = vec![store_table(store, file, &pools)?];
    if !pools.is_empty() {
        parts.push(pools_table(&pools));
    }
    let detailed = if pools.len() > POOLS_MAX_DETAILED { LARGEST_POOLS } else { pools.len() };
    for pool in pools.iter().take(detailed) {
        parts.push(describe_pool(&PoolFigures::gather(store, &store.pool(pool.id)?)?));
    }
    if detailed < pools.len() {
        parts.push(format!(
            "Only the {detailed} largest of {} data pools are shown in detail; `stats POOL` shows another one.",
            pools.len()
        ));
    }
    Ok(parts.join("\n\n"))
}

fn store_table(store: &DataPoolStore, file: &StoreFile, pools: &[PoolSums]) -> Result<String, Failure> {
    let stats = store.stats()?;
    let sum =
        |figure: fn(&PoolStats) -> u64| output::count(pools.iter().map(|pool| figure(&pool.stats)).sum());
    Ok(Grid::of_properties([
        ("store", file.display()),
        ("file size", file.path().map_or("on the server".to_owned(), |_| output::bytes(stats.file_size))),
        ("pools", output::count(stats.pools)),
        ("live records", sum(|pool| pool.live)),
        ("expired", sum(|pool| pool.expired)),
        ("deleted", sum(|pool| pool.deleted)),
        ("claims", sum(|pool| pool.claims)),
        ("cache memory", output::bytes(stats.cache_memory)),
        ("index memory", output::bytes(stats.index_memory)),
    ]))
}

fn pools_table(pools: &[PoolSums]) -> String {
    let mut grid = Grid::new([
        Column::Number("id"),
        Column::Text("pool"),
        Column::Number("live"),
        Column::Number("expired"),
        Column::Number("deleted"),
        Column::Number("claims"),
        Column::Number("segments"),
        Column::Number("bytes"),
        Column::Text("newest (UTC)"),
    ]);
    for PoolSums { id, name, stats } in pools.iter().take(POOLS_MAX_LISTED) {
        grid.row([
            id.to_string(),
            name.clone(),
            output::count(stats.live),
            output::count(stats.expired),
            output::count(stats.deleted),
            output::count(stats.claims),
            output::count(stats.segments),
            output::bytes(stats.bytes),
            output::or_dash(stats.newest.map(output::time)),
        ]);
    }
    match pools.len().saturating_sub(POOLS_MAX_LISTED) {
        0 => grid.to_string(),
        more => format!("{grid}\nand {} with fewer records", output::number_of(more as u64, "data pool")),
    }
}

fn describe_pool(figures: &PoolFigures) -> String {
    let PoolFigures { sums: PoolSums { id, name, stats }, per_day, .. } = figures;
    let mut parts = vec![Grid::of_properties([
        ("pool", format!("{id}, {name:?}")),
        ("live", output::count(stats.live)),
        ("expired", output::count(stats.expired)),
        ("deleted", output::count(stats.deleted)),
        ("claims", output::count(stats.claims)),
        ("segments", output::count(stats.segments)),
        ("bytes, about", output::bytes(stats.bytes)),
        ("oldest (UTC)", output::or_dash(stats.oldest.map(output::time))),
        ("newest (UTC)", output::or_dash(stats.newest.map(output::time))),
    ])];
    if let Some(scale) = Scale::of(per_day) {
        let rows = scale.bars(per_day).into_iter().map(|(label, records)| Row::new(label, records));
        parts.push(Chart::new(scale.title(), rows).to_string());
    }
    if stats.live > 0 {
        let types = figures.entity_types.iter().map(|share| (share.label(), share.records));
        parts.push(shares("Share of each entity type", types, "entity types", stats.live));
        let without =
            stats.live - figures.flows.iter().map(|share| share.records).sum::<u64>().min(stats.live);
        let flows = figures.flows.iter().map(|share| (share.label(), share.records));
        let without = (without > 0).then(|| ("without a flow".to_owned(), without));
        parts.push(shares("Share of each flow", flows.chain(without), "flows", stats.live));
    }
    if !stats.fill.is_empty() {
        parts.push(segments(&stats.fill));
    }
    parts.join("\n\n")
}

/// Shows the share of each part, the largest first. The smallest ones share a bar.
fn shares(title: &str, parts: impl Iterator<Item = (String, u64)>, noun: &str, whole: u64) -> String {
    let mut parts: Vec<(String, u64)> = parts.collect();
    parts.sort_by_key(|(_, records)| std::cmp::Reverse(*records));
    if parts.len() > SHARES_MAX + 1 {
        let others = parts.split_off(SHARES_MAX);
        let records = others.iter().map(|(_, records)| records).sum();
        parts.push((format!("{} other {noun}", output::count(others.len() as u64)), records));
    }
    let rows = parts.into_iter().map(|(label, records)| Row::new(label, records).with_percent_of(whole));
    Chart::new(title, rows).to_string()
}

/// Shows how full each segment is. If there are many, only the newest are shown.
fn segments(fill: &[SegmentFill]) -> String {
    let older = fill.len().saturating_sub(SEGMENTS_MAX);
    let rows = fill.iter().skip(older).map(|segment| {
        let state = if segment.sealed { "sealed" } else { "open" };
        let label = format!("{} {state}", segment.number);
        let live = format!("{} live", output::count(segment.live));
        Row::new(label, segment.records).with_percent_of(segment.slots).with_note(live)
    });
    let slots = fill.iter().map(|segment| segment.slots).max().unwrap_or_default();
    let most = output::count(slots);
    let title = match older {
        0 => format!("Records in each segment, of {most}"),
        _ => format!("Records in each of the newest {SEGMENTS_MAX} of {} segments, of {most}", fill.len()),
    };
    Chart::new(title, rows).up_to(slots).to_string()
}
