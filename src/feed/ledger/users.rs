//! The objects that read one source, in order. Most sources have one or two, for which a tree would take ten times the memory.

use std::ops::Deref;

use super::ObjectId;

#[derive(Default)]
pub(super) struct Users(Vec<ObjectId>);

impl Users {
    /// Answers whether the object was none before.
    pub fn insert(&mut self, id: &ObjectId) -> bool {
        let Err(place) = self.0.binary_search(id) else { return false };
        if self.0.len() < 4 {
            self.0.reserve_exact(1);
        }
        self.0.insert(place, id.clone());
        true
    }

    /// Answers whether the object was one.
    pub fn remove(&mut self, id: &ObjectId) -> bool {
        let place = self.0.binary_search(id);
        place.map(|place| self.0.remove(place)).is_ok()
    }

    /// All of them once, beginning with this one, or the next after its place.
    pub fn from(&self, id: &ObjectId) -> impl Iterator<Item = &ObjectId> {
        let (before, after) = self.0.split_at(self.0.partition_point(|user| user < id));
        after.iter().chain(before)
    }
}

impl Deref for Users {
    type Target = [ObjectId];

    fn deref(&self) -> &[ObjectId] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ObjectId {
        ObjectId { uid: name.into(), namespace: "ns".into(), name: name.into() }
    }

    #[test]
    fn each_is_there_once_and_all_are_found_from_any_place() {
        let mut users = Users::default();
        assert!(["c", "a", "e"].iter().all(|name| users.insert(&id(name))));
        assert!(!users.insert(&id("c")));
        let from = |users: &Users, name: &str| users.from(&id(name)).map(|id| id.name.to_string()).collect::<String>();
        assert_eq!(
            [from(&users, "a"), from(&users, "b"), from(&users, "e"), from(&users, "f")],
            ["ace", "cea", "eac", "ace"]
        );
        assert!(users.remove(&id("c")) && !users.remove(&id("c")));
        assert_eq!(from(&users, "a"), "ae");
    }
}
