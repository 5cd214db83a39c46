//! Pools and registered names.

use datapool_store::{
    EntityTypeId, FlowId, FlowRunId, FlowStepId, NewPool, PoolQuery, PoolSort, PoolUpdate, Registered,
    Result, Timestamp,
};

use super::text;
use super::{Subject, unit};
use crate::answer::{Answer, Refusal};
use crate::model::attributes;
use crate::operation::{Edit, Edits, Fields, Kind, Operation, PoolList, Registry};

impl Subject {
    pub fn apply_to_catalog(&self, operation: &Operation) -> Answer {
        match operation {
            Operation::CreatePool { fields, or_get } => {
                let new = new_pool(fields);
                let pool =
                    if *or_get { self.store.get_or_create_pool(new) } else { self.store.create_pool(new) };
                Ok(vec![pool?.id().to_string()])
            }
            Operation::UpdatePool { pool, edits } => {
                let row = self.store.update_pool(*pool, update(edits))?;
                Ok(vec![text::pool_row(&row).line()])
            }
            Operation::DeletePool { pool } => unit(self.store.delete_pool(*pool)),
            Operation::ShowPool { pool } => Ok(vec![text::pool_row(&self.store.pool(*pool)?.info()?).line()]),
            Operation::PoolNamed { name } => Ok(vec![self.store.pool_named(name)?.id().to_string()]),
            Operation::FindPool { pool, list } => {
                Ok(vec![self.store.find_pool(*pool, &pool_query(list)?)?.id().to_string()])
            }
            Operation::ListPools(list) => {
                let query = pool_query(list)?;
                Ok(text::page_of_pools(&self.store.pools(&query)?, &query))
            }
            Operation::Register { kind, what } => self.register(*kind, what).map_err(Refusal::from),
            other => panic!("{other:?} is about no catalog"),
        }
    }

    fn register(&self, kind: Kind, what: &Registry) -> Result<Vec<String>> {
        let store = &self.store;
        macro_rules! register {
            ($id:ident, $parse:expr, $put:ident, $put_all:ident, $get:ident, $list:ident, $delete:ident, $before:ident) => {{
                let id = |text: &str| -> $id { $parse(text) };
                match what {
                    Registry::Put(new) => {
                        let made = |(name, text, number): &(String, String, u64)| {
                            let attributes: serde_json::Value =
                                serde_json::from_str(&attributes(*number)).unwrap();
                            Registered::new(id(name), text.clone()).attributes(attributes)
                        };
                        let entries: Vec<Registered<$id>> = new.iter().map(made).collect();
                        match <[_; 1]>::try_from(entries) {
                            Ok([entry]) => store.$put(entry)?,
                            Err(entries) => store.$put_all(&entries)?,
                        }
                        Vec::new()
                    }
                    Registry::Get(name) => {
                        vec![store.$get(id(name))?.map_or_else(|| "none".to_owned(), |entry| line(&entry))]
                    }
                    Registry::List => store.$list().map(|e| e.map(|e| line(&e))).collect::<Result<_>>()?,
                    Registry::Delete(name) => vec![store.$delete(id(name))?.to_string()],
                    Registry::DeleteBefore(time) => {
                        vec![store.$before(Timestamp::from_micros(*time))?.to_string()]
                    }
                }
            }};
        }
        Ok(match kind {
            Kind::EntityType => register!(
                EntityTypeId,
                |text: &str| EntityTypeId::new(text.parse().unwrap()),
                put_entity_type,
                put_entity_types,
                entity_type,
                entity_types,
                delete_entity_type,
                delete_entity_types_before
            ),
            Kind::Flow => register!(
                FlowId,
                FlowId::from,
                put_flow,
                put_flows,
                flow,
                flows,
                delete_flow,
                delete_flows_before
            ),
            Kind::Run => register!(
                FlowRunId,
                FlowRunId::from,
                put_flow_run,
                put_flow_runs,
                flow_run,
                flow_runs,
                delete_flow_run,
                delete_flow_runs_before
            ),
            Kind::Step => register!(
                FlowStepId,
                FlowStepId::from,
                put_flow_step,
                put_flow_steps,
                flow_step,
                flow_steps,
                delete_flow_step,
                delete_flow_steps_before
            ),
        })
    }
}

fn line<Id: ToString>(entry: &Registered<Id>) -> String {
    format!("{:?} {:?} {}", entry.id.to_string(), entry.name, entry.attributes)
}

fn new_pool(fields: &Fields) -> NewPool {
    let Fields { name, description, retention, capacity } = fields;
    let mut new = NewPool::new(name);
    new = description.iter().fold(new, |new, text| new.description(text));
    new = retention.iter().fold(new, |new, micros| new.retention(text::duration(*micros)));
    capacity.iter().fold(new, |new, records| new.capacity(*records))
}

fn update(edits: &Edits) -> PoolUpdate {
    let Edits { name, description, retention, capacity } = edits;
    let mut update = PoolUpdate::new();
    update = name.iter().fold(update, |update, name| update.name(name));
    update = match description {
        Edit::Keep => update,
        Edit::Clear => update.clear_description(),
        Edit::Set(text) => update.description(text),
    };
    update = match retention {
        Edit::Keep => update,
        Edit::Clear => update.clear_retention(),
        Edit::Set(micros) => update.retention(text::duration(*micros)),
    };
    match capacity {
        Edit::Keep => update,
        Edit::Clear => update.clear_capacity(),
        Edit::Set(records) => update.capacity(*records),
    }
}

fn pool_query(list: &PoolList) -> Result<PoolQuery> {
    let PoolList { ids, names, terms, sort, page, per_page, as_text } = list;
    let mut query = PoolQuery::new();
    query = ids.iter().fold(query, |query, id| query.id(*id));
    query = names.iter().fold(query, |query, name| query.name(name));
    query = terms.iter().fold(query, |query, term| query.id_or_name(term));
    let sorts = [PoolSort::Id, PoolSort::CreatedAt, PoolSort::CreatedAtDescending];
    query = query.sort(sorts[usize::from(*sort)]).page(*page).per_page(u32::try_from(*per_page).unwrap());
    if !as_text {
        return Ok(query);
    }
    let parsed: PoolQuery = query.to_string().parse()?;
    assert!(parsed == query, "{query} reads back as {parsed}");
    Ok(parsed)
}
