//! How so many objects are spread over paths and stores: up to three thousand have a path each and one store, as the thousand that were
//! compared with another operator; more of them share paths in pairs, and have a store for every two hundred.

use serde_json::{Value, json};

/// Above this the objects are spread.
const PLAIN: usize = 3000;

const OBJECTS_OF_A_STORE: usize = 200;

#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) objects: usize,
    pub(super) paths: usize,
    pub(super) stores: usize,
}

impl Layout {
    pub(super) fn of(objects: usize) -> Self {
        if objects <= PLAIN {
            return Self { objects, paths: objects, stores: 1 };
        }
        Self { objects, paths: objects.div_ceil(2), stores: objects.div_ceil(OBJECTS_OF_A_STORE) }
    }

    /// The path of an object.
    pub(super) fn path(self, object: usize) -> String {
        path(object % self.paths)
    }

    /// The objects that read a path.
    pub(super) fn users(self, path: usize) -> impl Iterator<Item = usize> {
        (path..self.objects).step_by(self.paths)
    }

    /// The store of an object: always the same for a path.
    pub(super) fn store(self, object: usize) -> String {
        store(object % self.paths % self.stores)
    }

    /// Every store but the one that the chart makes.
    pub(super) fn further_stores(self) -> impl Iterator<Item = String> {
        (1..self.stores).map(store)
    }

    /// The `OkmsSecret` of an object.
    pub(super) fn manifest(self, object: usize) -> Value {
        manifest(&name(object), &self.path(object), &self.store(object))
    }

    /// One more `OkmsSecret`, for another path: the store is that of an object of this number.
    pub(super) fn further(self, number: usize, name: &str, path: &str) -> Value {
        manifest(name, path, &self.store(number))
    }
}

fn manifest(name: &str, path: &str, store: &str) -> Value {
    json!({
        "apiVersion": "okms-operator.io/v1alpha1",
        "kind": "OkmsSecret",
        "metadata": {"name": name},
        "spec": {"path": path, "storeRef": {"name": store}},
    })
}

/// The name of an object and of its Secret.
pub(super) fn name(object: usize) -> String {
    format!("secret-{object}")
}

pub(super) fn path(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// What every path begins with.
pub(super) const PREFIX: &str = "prod/bench/";

fn store(number: usize) -> String {
    if number == 0 { "default".to_owned() } else { format!("store-{number}") }
}

/// What a database's secret usually holds: five fields, about 1.2 KB.
pub(super) fn content(password: &str) -> Value {
    json!({
        "host": "postgresql-1f0c3a5e.database.cloud.ovh.net",
        "port": 20184,
        "user": "shop",
        "password": format!("{password:-<32}"),
        "ca": "-".repeat(1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_objects_read_five_thousand_paths_through_fifty_stores() {
        let layout = Layout::of(10_000);
        assert_eq!((layout.paths, layout.stores), (5000, 50));
        assert_eq!(layout.users(7).collect::<Vec<_>>(), [7, 5007]);
        assert_eq!((layout.path(7), layout.store(7)), (layout.path(5007), layout.store(5007)));
        assert_eq!(layout.further_stores().count(), 49);
    }

    #[test]
    fn a_thousand_have_a_path_each_and_one_store() {
        let layout = Layout::of(1000);
        assert_eq!((layout.paths, layout.stores, layout.store(999)), (1000, 1, "default".to_owned()));
    }
}
