//! The store's values in the form of the model's.

use std::time::Duration;

use datapool_store::{
    DataPool, Key, Origin, Page, PoolQuery, Record, RecordFilter, RecordInclude, RecordQuery, RecordSort,
    Timestamp, Version,
};

use crate::answer::{Frame, PoolRow, Row, maybe_line};
use crate::generate::content;
use crate::operation::{Filter, From3, Item, Query};

pub fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Returns the key of an item. The store computes a digest of content itself; the item has it already, so it is given
/// as the key of a record that has it.
pub fn key(item: &Item) -> Key<'static> {
    let key = Key::new(item.entity, item.value.clone());
    match item.version {
        None => key,
        Some(Version::Ordinal(number)) => key.ordinal(number),
        Some(version) => match (0..crate::generate::CONTENTS).find(|n| content(*n) == version) {
            Some(number) => key.content(format!("content {number}")),
            None => panic!("no content has the digest {version}"),
        },
    }
}

pub fn keys(items: &[Item]) -> Vec<Key<'static>> {
    items.iter().map(key).collect()
}

pub fn origin(from: &From3) -> Origin {
    let From3 { flow, run, step } = from.clone();
    let mut origin = Origin::none();
    if let Some(flow) = flow {
        origin = origin.with_flow(flow);
    }
    if let Some(run) = run {
        origin = origin.with_run(run);
    }
    if let Some(step) = step {
        origin = origin.with_step(step);
    }
    origin
}

pub fn from_of(origin: &Origin) -> From3 {
    let text = |id: Option<&str>| id.map(str::to_owned);
    From3 {
        flow: text(origin.flow().map(AsRef::as_ref)),
        run: text(origin.run().map(AsRef::as_ref)),
        step: text(origin.step().map(AsRef::as_ref)),
    }
}

pub fn row(record: &Record) -> Row {
    Row {
        id: record.id.get(),
        entity: record.entity_type_id.get(),
        value: record.value.clone(),
        from: from_of(&record.origin()),
        created: record.created_at.as_micros(),
        version: record.version,
    }
}

pub fn maybe_row(record: Option<&Record>) -> String {
    maybe_line(record.map(row).as_ref())
}

pub fn pool_row(pool: &DataPool) -> PoolRow {
    PoolRow {
        id: pool.id.get(),
        name: pool.name.clone(),
        description: pool.description.clone(),
        created: pool.created_at.as_micros(),
        updated: pool.updated_at.as_micros(),
        retention: pool.retention.map(micros),
        capacity: pool.capacity,
    }
}

pub fn filter(filter: &Filter) -> RecordFilter {
    let Filter { flows, runs, steps, entities, values, after, before, all } = filter;
    let mut made = if *all { RecordFilter::all() } else { RecordFilter::new() };
    made = flows.iter().fold(made, |made, id| made.flow_id(id));
    made = runs.iter().fold(made, |made, id| made.flow_run_id(id));
    made = steps.iter().fold(made, |made, id| made.step_id(id));
    made = entities.iter().fold(made, |made, id| made.entity_type_id(*id));
    made = values.iter().fold(made, |made, value| made.value(value));
    made = after.iter().fold(made, |made, time| made.created_after(Timestamp::from_micros(*time)));
    before.iter().fold(made, |made, time| made.created_before(Timestamp::from_micros(*time)))
}

/// Returns the query, built in code or parsed from its text.
pub fn query(asked: &Query) -> datapool_store::Result<RecordQuery> {
    if let Some(text) = &asked.text {
        return text.parse();
    }
    let includes = [
        RecordInclude::Flow,
        RecordInclude::FlowRun,
        RecordInclude::FlowStep,
        RecordInclude::EntityType,
        RecordInclude::DataPool,
    ];
    let wanted = includes.into_iter().zip(asked.include).filter(|(_, wanted)| *wanted);
    let sort = if asked.descending { RecordSort::Descending } else { RecordSort::Ascending };
    let query = RecordQuery::new()
        .filter(filter(&asked.filter))
        .sort(sort)
        .include(wanted.map(|(include, _)| include))
        .per_page(u32::try_from(asked.per_page).unwrap());
    match asked.cursor {
        Some(cursor) => Ok(query.cursor(cursor.to_string().parse()?)),
        None => Ok(query.page(asked.page)),
    }
}

/// Returns the page or cursor to which a link leads; the rest of the link must be the query.
fn link_of_records(link: &str, asked: &RecordQuery) -> String {
    let parsed: RecordQuery = match link.parse() {
        Ok(parsed) => parsed,
        Err(error) => return format!("{link}: {error}"),
    };
    for part in link.trim_start_matches('?').split('&') {
        if let Some(cursor) = part.strip_prefix("cursor=") {
            let same = asked.clone().page(1).cursor(cursor.parse().unwrap()) == parsed;
            return if same { format!("cursor {cursor}") } else { link.to_owned() };
        }
    }
    let page = part_of(link);
    // A query by cursor has no way to take the cursor away: compare the texts.
    let text = asked.to_string();
    let mut parts: Vec<&str> =
        text.split('&').filter(|part| !part.starts_with("cursor=") && !part.starts_with("page=")).collect();
    parts.retain(|part| !part.is_empty());
    let same = parts.join("&").parse::<RecordQuery>().is_ok_and(|query| query.page(page) == parsed);
    if same { format!("page {page}") } else { link.to_owned() }
}

fn part_of(link: &str) -> u64 {
    let parts = link.trim_start_matches('?').split('&');
    parts.filter_map(|part| part.strip_prefix("page=")).find_map(|page| page.parse().ok()).unwrap_or(1)
}

fn link_of_pools(link: &str, asked: &PoolQuery) -> String {
    let page = part_of(link);
    match link.parse::<PoolQuery>() {
        Ok(parsed) if asked.clone().page(page) == parsed => format!("page {page}"),
        _ => link.to_owned(),
    }
}

fn frame<T>(page: &Page<T>, link: impl Fn(&str) -> String) -> String {
    let (meta, links) = (&page.meta, &page.links);
    let frame = Frame {
        current: meta.current_page,
        last: meta.last_page,
        from: meta.from,
        to: meta.to,
        per_page: u64::from(meta.per_page),
        total: meta.total,
        cursor: page.next_cursor.map(|cursor| cursor.to_string()),
        links: [Some(&links.first), Some(&links.last), links.prev.as_ref(), links.next.as_ref()]
            .map(|found| found.map(|text| link(text))),
    };
    frame.line()
}

pub fn page_of_records(page: &Page<Record>, asked: &Query, query: &RecordQuery) -> Vec<String> {
    let included = |record: &Record, index: usize| {
        let entry = |name: &str, attributes: &serde_json::Value| format!("{name:?} {attributes}");
        let shown = &record.included;
        let found = match index {
            0 => shown.flow().map(|found| entry(&found.name, &found.attributes)),
            1 => shown.flow_run().map(|found| entry(&found.name, &found.attributes)),
            2 => shown.flow_step().map(|found| entry(&found.name, &found.attributes)),
            3 => shown.entity_type().map(|found| entry(&found.name, &found.attributes)),
            _ => shown.data_pool().map(|found| pool_row(found).line()),
        };
        found.unwrap_or_else(|| "null".to_owned())
    };
    let line = |record: &Record| {
        let mut line = row(record).line();
        for (index, wanted) in asked.include.iter().enumerate() {
            if *wanted {
                line.push_str(&format!(" with {}", included(record, index)));
            }
        }
        line
    };
    let first = frame(page, |link| link_of_records(link, query));
    std::iter::once(first).chain(page.iter().map(line)).collect()
}

pub fn page_of_pools(page: &Page<DataPool>, query: &PoolQuery) -> Vec<String> {
    let first = frame(page, |link| link_of_pools(link, query));
    std::iter::once(first).chain(page.iter().map(|pool| pool_row(pool).line())).collect()
}
