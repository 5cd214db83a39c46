//! Registered names of entity types, flows, runs and steps.

use std::collections::BTreeMap;

use super::Model;
use crate::operation::{Kind, Registry};

#[derive(Debug, Clone)]
pub struct Entry {
    pub name: String,
    /// JSON text.
    pub attributes: String,
    pub put: i64,
}

pub type Entries = BTreeMap<String, Entry>;

/// The attributes that a run registers under a number.
pub fn attributes(number: u64) -> String {
    if number.is_multiple_of(4) {
        "{}".to_owned()
    } else {
        format!("{{\"active\":{},\"size\":{number}}}", number.is_multiple_of(2))
    }
}

impl Model {
    pub fn register(&mut self, kind: Kind, what: &Registry) -> Vec<String> {
        let now = self.now;
        let entries = &mut self.registered[kind as usize];
        match what {
            Registry::Put(new) => {
                for (id, name, number) in new {
                    let (name, attributes) = (name.clone(), attributes(*number));
                    entries.insert(id.clone(), Entry { name, attributes, put: now });
                }
                Vec::new()
            }
            Registry::Get(id) => vec![entries.get(id).map_or_else(|| "none".to_owned(), |e| line(id, e))],
            Registry::List => {
                let mut ids: Vec<&String> = entries.keys().collect();
                if kind == Kind::EntityType {
                    ids.sort_by_key(|id| id.parse::<u32>().unwrap_or(0));
                }
                ids.into_iter().map(|id| line(id, &entries[id])).collect()
            }
            Registry::Delete(id) => vec![entries.remove(id).is_some().to_string()],
            Registry::DeleteBefore(time) => {
                let before = entries.len();
                entries.retain(|_, entry| entry.put >= *time);
                vec![(before - entries.len()).to_string()]
            }
        }
    }
}

fn line(id: &str, entry: &Entry) -> String {
    format!("{id:?} {:?} {}", entry.name, entry.attributes)
}
