//! Filters and queries, also as the API's query strings.

use datapool_store::Timestamp;

use super::Generator;
use super::items::{ENTITIES, FLOWS, RUNS, STEPS};
use crate::model::Model;
use crate::operation::{Filter, Query};

impl Generator {
    fn texts(&mut self, ids: &[&str]) -> Vec<String> {
        let count = self.random.between(1, 3);
        (0..count).map(|_| (*self.random.pick(ids)).to_owned()).collect()
    }

    /// A point near the time of a record.
    fn point(&mut self, model: &Model, pool: u64) -> i64 {
        let records = model.pools.get(&pool).map(|pool| &pool.records);
        let last = records.and_then(|records| records.last_key_value()).map_or(1, |(id, _)| *id);
        let from = self.random.between(1, last);
        let record = records.and_then(|records| records.range(from..).next());
        let near = i64::try_from(self.random.below(3)).unwrap() - 1;
        record.map_or(model.now, |(_, record)| record.created) + near
    }

    pub fn filter(&mut self, model: &Model, pool: u64) -> Filter {
        let mut filter = Filter::default();
        for _ in 0..self.random.weighted(&[2, 5, 3, 1]) {
            match self.random.below(7) {
                0 => filter.flows = self.texts(&FLOWS),
                1 => filter.runs = self.texts(&RUNS),
                2 => filter.steps = self.texts(&STEPS),
                3 => filter.entities = vec![*self.random.pick(&ENTITIES[..3])],
                4 => filter.values = self.few(model, pool).into_iter().map(|item| item.value).collect(),
                5 => filter.after = Some(self.point(model, pool)),
                _ => filter.before = Some(self.point(model, pool)),
            }
        }
        filter
    }

    /// A filter for a deletion: nearly never everything.
    pub fn narrow_filter(&mut self, model: &Model, pool: u64) -> Filter {
        match self.random.below(40) {
            0 => Filter { all: true, ..Filter::default() },
            1 => Filter::default(),
            _ => {
                let mut filter = self.filter(model, pool);
                if filter.values.is_empty() && self.random.once_in(2) {
                    filter.values = self.few(model, pool).into_iter().map(|item| item.value).collect();
                } else if filter.runs.is_empty() {
                    filter.runs = vec![(*self.random.pick(&RUNS)).to_owned()];
                }
                filter
            }
        }
    }

    pub fn query(&mut self, model: &Model, pool: u64) -> Query {
        let mut query = Query { page: 1, per_page: 15, ..Query::default() };
        query.filter = self.filter(model, pool);
        query.descending = self.random.once_in(2);
        if self.random.once_in(3) {
            query.include = [(); 5].map(|()| self.random.once_in(2));
        }
        if self.random.once_in(2) {
            query.per_page = self.random.between(1, 100);
        }
        match self.random.below(5) {
            0 => query.page = self.random.between(1, 6),
            1 => query.page = self.random.between(1, 400),
            2 => query.cursor = Some(self.record_id(model, pool)),
            _ => {}
        }
        if self.random.once_in(2) {
            query.text = Some(self.query_text(&query));
        }
        query
    }

    fn query_text(&mut self, query: &Query) -> String {
        let filter = &query.filter;
        let mut parts = Vec::new();
        for (name, ids) in
            [("flow_id", &filter.flows), ("flow_run_id", &filter.runs), ("step_id", &filter.steps)]
        {
            self.list(&mut parts, &format!("filter[{name}]"), ids);
        }
        let entities: Vec<String> = filter.entities.iter().map(ToString::to_string).collect();
        self.list(&mut parts, "filter[entity_type_id]", &entities);
        match filter.values.as_slice() {
            [] => {}
            [value] if self.random.once_in(2) => parts.push(("filter[value]".to_owned(), value.clone())),
            values => parts.extend(values.iter().map(|value| ("filter[value][]".to_owned(), value.clone()))),
        }
        for (name, time) in [("created_after", filter.after), ("created_before", filter.before)] {
            let text = time.map(|time| self.time_text(time));
            parts.extend(text.map(|text| (format!("filter[{name}]"), text)));
        }
        let names = ["flow", "flowRun", "flowStep", "entityType", "dataPool"];
        let wanted = names.into_iter().zip(query.include).filter(|(_, wanted)| *wanted);
        let includes: Vec<String> = wanted.map(|(name, _)| name.to_owned()).collect();
        self.list(&mut parts, "include", &includes);
        let field = if self.random.once_in(2) { "created_at" } else { "id" };
        if query.descending || self.random.once_in(3) {
            let sign = if query.descending { "-" } else { "" };
            parts.push(("sort".to_owned(), format!("{sign}{field}")));
        }
        match query.cursor {
            Some(cursor) => parts.push(("cursor".to_owned(), cursor.to_string())),
            None if query.page > 1 => parts.push(("page".to_owned(), query.page.to_string())),
            None => {}
        }
        if query.per_page != 15 {
            parts.push(("per_page".to_owned(), query.per_page.to_string()));
        }
        let mut encode = |text: &str| self.encoded(text);
        let parts: Vec<String> =
            parts.iter().map(|(name, text)| format!("{}={}", encode(name), encode(text))).collect();
        let mark = if self.random.once_in(3) { "?" } else { "" };
        format!("{mark}{}", parts.join("&"))
    }

    /// A list in one of its forms: with commas, or as an array of either kind.
    fn list(&mut self, parts: &mut Vec<(String, String)>, name: &str, terms: &[String]) {
        if terms.is_empty() {
            return;
        }
        match self.random.below(4) {
            0 => parts.extend(terms.iter().map(|term| (format!("{name}[]"), term.clone()))),
            1 => {
                let numbered = terms.iter().enumerate();
                parts.extend(numbered.map(|(index, term)| (format!("{name}[{index}]"), term.clone())));
            }
            2 => parts.push((name.to_owned(), terms.join(" , "))),
            _ => parts.push((name.to_owned(), terms.join(","))),
        }
    }

    /// A point in one of the forms of timestamps.
    fn time_text(&mut self, time: i64) -> String {
        let text = Timestamp::from_micros(time).to_string();
        let moved = Timestamp::from_micros(time + 7_200 * super::SECOND).to_string();
        match self.random.below(5) {
            0 => text.replace('T', " "),
            1 => text.replace('Z', ""),
            2 => moved.replace('Z', "+02:00"),
            3 => moved.replace('Z', "+02"),
            _ => text,
        }
    }

    /// Percent-encodes what must be, and sometimes more.
    fn encoded(&mut self, text: &str) -> String {
        let mut encoded = String::new();
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    encoded.push(char::from(byte))
                }
                b'[' | b']' | b',' | b':' | b'*' if self.random.once_in(2) => encoded.push(char::from(byte)),
                b' ' if self.random.once_in(2) => encoded.push('+'),
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    }
}
