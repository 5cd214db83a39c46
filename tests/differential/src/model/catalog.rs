//! Pools: creating, changing, deleting, listing.

use datapool_store::ErrorKind;

use super::Model;
use super::ask::pools_frame;
use super::pool::Pool;
use crate::answer::{Answer, PoolRow, Refusal};
use crate::operation::{Edit, Edits, Fields, PoolList};

impl<T: Clone> Edit<T> {
    fn apply(&self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value.clone()),
        }
    }

    fn value(&self) -> Option<T> {
        if let Self::Set(value) = self { Some(value.clone()) } else { None }
    }
}

/// Checks what a pool is to have.
fn check(
    name: Option<&str>,
    description: Option<&str>,
    retention: Option<i64>,
    capacity: Option<u64>,
) -> Result<(), Refusal> {
    let day = 86_400_000_000;
    let good = name.is_none_or(|name| (3..=100).contains(&name.chars().count()))
        && description.is_none_or(|text| text.chars().count() <= 255)
        && retention.is_none_or(|retention| (1_000..=36_500 * day).contains(&retention))
        && capacity.is_none_or(|capacity| capacity > 0);
    if good { Ok(()) } else { Err(Refusal::of(ErrorKind::LimitExceeded)) }
}

impl Model {
    fn id_of(&self, name: &str) -> Option<u64> {
        self.pools.values().find(|pool| pool.row.name == name).map(|pool| pool.row.id)
    }

    pub fn create_pool(&mut self, fields: &Fields, or_get: bool) -> Answer {
        let Fields { name, description, retention, capacity } = fields.clone();
        check(Some(&name), description.as_deref(), retention, capacity)?;
        if let Some(id) = self.id_of(&name) {
            return if or_get {
                Ok(vec![id.to_string()])
            } else {
                Err(Refusal::of(ErrorKind::AlreadyExists))
            };
        }
        let (id, now) = (self.next_pool, self.now);
        self.next_pool += 1;
        let row = PoolRow { id, name, description, created: now, updated: now, retention, capacity };
        self.pools.insert(id, Pool::new(row));
        Ok(vec![id.to_string()])
    }

    pub fn update_pool(&mut self, id: u64, edits: &Edits) -> Answer {
        let Edits { name, description, retention, capacity } = edits;
        check(name.as_deref(), description.value().as_deref(), retention.value(), capacity.value())?;
        let now = self.now;
        self.pool(id)?;
        if let Some(name) = name
            && self.id_of(name).is_some_and(|other| other != id)
        {
            return Err(Refusal::of(ErrorKind::AlreadyExists));
        }
        let pool = self.pool(id)?;
        if let Some(name) = name {
            pool.row.name.clone_from(name);
        }
        description.apply(&mut pool.row.description);
        retention.apply(&mut pool.row.retention);
        capacity.apply(&mut pool.row.capacity);
        pool.row.updated = pool.row.updated.max(now);
        pool.committed(now);
        Ok(vec![pool.row.line()])
    }

    pub fn delete_pool(&mut self, id: u64) -> Answer {
        self.pools.remove(&id).map(|_| Vec::new()).ok_or(Refusal::of(ErrorKind::NotFound))
    }

    pub fn show_pool(&self, id: u64) -> Answer {
        self.pools.get(&id).map(|pool| vec![pool.row.line()]).ok_or(Refusal::of(ErrorKind::NotFound))
    }

    pub fn pool_named(&self, name: &str) -> Answer {
        self.id_of(name).map(|id| vec![id.to_string()]).ok_or(Refusal::of(ErrorKind::NotFound))
    }

    pub fn find_pool(&self, id: u64, list: &PoolList) -> Answer {
        let row = self.pools.get(&id).map(|pool| &pool.row).filter(|row| list.takes(row));
        row.map(|row| vec![row.id.to_string()]).ok_or(Refusal::of(ErrorKind::NotFound))
    }

    pub fn list_pools(&self, list: &PoolList) -> Answer {
        let mut rows: Vec<&PoolRow> =
            self.pools.values().map(|pool| &pool.row).filter(|row| list.takes(row)).collect();
        if list.sort > 0 {
            rows.sort_by_key(|row| (row.created, row.id));
        }
        if list.sort == 2 {
            rows.reverse();
        }
        let total = rows.len() as u64;
        let skip = usize::try_from((list.page - 1).saturating_mul(list.per_page)).unwrap_or(usize::MAX);
        let shown: Vec<_> =
            rows.into_iter().skip(skip).take(usize::try_from(list.per_page).unwrap()).collect();
        let frame = pools_frame(list.page, list.per_page, shown.len() as u64, total);
        Ok(std::iter::once(frame.line()).chain(shown.into_iter().map(PoolRow::line)).collect())
    }
}

impl PoolList {
    fn takes(&self, row: &PoolRow) -> bool {
        let name = row.name.to_lowercase();
        (self.ids.is_empty() || self.ids.contains(&row.id))
            && (self.names.is_empty() || self.names.iter().any(|part| name.contains(&part.to_lowercase())))
            && (self.terms.is_empty()
                || self.terms.iter().any(|term| *term == row.name || *term == row.id.to_string()))
    }
}
