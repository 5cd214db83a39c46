//! Items and records, comparable with those that a test made itself.

use datapool_store::{EntityTypeId, Key, Origin, Record, Timestamp};

/// A record, comparable with one that a test made itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) item: Item,
    pub(crate) origin: Origin,
    pub(crate) created_at: Timestamp,
}

impl From<&Record> for Row {
    fn from(record: &Record) -> Self {
        let mut origin = Origin::none();
        if let Some(flow) = &record.flow_id {
            origin = origin.with_flow(flow.clone());
        }
        if let Some(run) = &record.flow_run_id {
            origin = origin.with_run(run.clone());
        }
        if let Some(step) = &record.step_id {
            origin = origin.with_step(step.clone());
        }
        let item = Item { entity_type: record.entity_type_id, value: record.value.clone() };
        Self { id: record.id.get(), item, origin, created_at: record.created_at }
    }
}

pub(crate) fn rows(records: &[Record]) -> Vec<Row> {
    records.iter().map(Row::from).collect()
}

/// What is deduplicated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Item {
    pub(crate) entity_type: EntityTypeId,
    pub(crate) value: String,
}

impl Item {
    pub(crate) fn key(&self) -> Key<'_> {
        Key::new(self.entity_type, self.value.as_str())
    }
}

/// The items as a CSV file, every field quoted.
pub(crate) fn csv_of(items: &[Item]) -> String {
    let row = |item: &Item| format!("\"{}\",\"{}\"\r\n", item.value.replace('"', "\"\""), item.entity_type);
    let rows: String = items.iter().map(row).collect();
    format!("value,entity_type_id\r\n{rows}")
}
