//! Items and records that can be compared with those made by a test.

use datapool_store::{EntityTypeId, Key, Origin, Record, Timestamp, Version};

/// A record that can be compared with one made by a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) item: Item,
    pub(crate) origin: Origin,
    pub(crate) created_at: Timestamp,
    pub(crate) version: Option<Version>,
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
        let (created_at, version) = (record.created_at, record.version);
        Self { id: record.id.get(), item, origin, created_at, version }
    }
}

pub(crate) fn rows(records: &[Record]) -> Vec<Row> {
    records.iter().map(Row::from).collect()
}

/// An item to deduplicate.
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

/// An item with its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) item: Item,
    pub(crate) version: Option<Version>,
}

impl From<Item> for Asked {
    fn from(item: Item) -> Self {
        Self { item, version: None }
    }
}

impl Asked {
    pub(crate) fn key(&self) -> Key<'_> {
        with_version(self.item.key(), self.version)
    }
}

/// Returns the key with this version. A content is identified by its first byte.
pub(crate) fn with_version(key: Key<'_>, version: Option<Version>) -> Key<'_> {
    match version {
        None => key,
        Some(Version::Ordinal(number)) => key.ordinal(number),
        Some(version) => {
            let number =
                (0..=u8::MAX).find(|number| content(*number) == version).expect("a content of a test");
            key.content([number])
        }
    }
}

/// Returns the version of a content that tests use.
pub(crate) fn content(number: u8) -> Version {
    Version::of_content([number])
}

/// Returns the items as a CSV file with every field quoted.
pub(crate) fn csv_of(items: &[Item]) -> String {
    let rows: String = items.iter().map(|item| format!("{}\r\n", csv_row(item))).collect();
    format!("value,entity_type_id\r\n{rows}")
}

/// Returns the items and their versions as a CSV file.
pub(crate) fn csv_with_versions(items: &[Asked]) -> String {
    let version = |asked: &Asked| asked.version.map(|version| version.to_string()).unwrap_or_default();
    let row = |asked: &Asked| format!("{},{}\r\n", csv_row(&asked.item), version(asked));
    let rows: String = items.iter().map(row).collect();
    format!("value,entity_type_id,version\r\n{rows}")
}

fn csv_row(item: &Item) -> String {
    format!("\"{}\",\"{}\"", item.value.replace('"', "\"\""), item.entity_type)
}
