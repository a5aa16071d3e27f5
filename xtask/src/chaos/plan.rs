//! From a seed to what will be done, and when: what is there at the begin, then the noise. It sees nothing of a run, so a seed always
//! means the same, whatever became of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    action::{Action, Hand, Key, Step, VersionState},
    dice::Dice,
    faults,
    world::{
        self, DEFAULT, FOREIGN_NAMES, HOST_NAMES, NAMESPACES, OWN, SECOND, Spec, World, some_creation, some_interval,
        some_keys, some_path, some_pin, some_policy, some_spec, some_template, some_type,
    },
};

/// The time between two changes.
const PACE: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(470));

/// How many `OkmsSecret`s there are at the begin, and at most.
const OBJECTS: (usize, usize) = (40, 60);

/// The fifth repair within ten minutes would be taken for a fight, which is not ended within a run.
const HANDS: usize = 3;

pub(super) struct Plan {
    /// Whether OKMS's list of all secrets shows their current versions.
    pub(super) list_versions: bool,
    /// Done before the noise, before an operator runs.
    pub(super) before: Vec<Action>,
    /// In the order of their times.
    pub(super) noise: Vec<Step>,
}

impl Plan {
    pub(super) fn new(seed: u64, length: Duration) -> Self {
        let dice = Dice::new(seed);
        let mut planner = Planner { dice: dice.fork("changes"), world: World::default(), next_name: 0 };
        let before = planner.before();
        let mut noise = planner.changes(length);
        noise.extend(faults::plan(&dice, length));
        noise.sort_by_key(|step| step.at);
        Self { list_versions: dice.fork("list").percent(60), before, noise }
    }
}

struct Planner {
    dice: Dice,
    world: World,
    next_name: usize,
}

/// The kinds of change, apart from faults.
#[derive(Clone, Copy)]
enum Change {
    Put,
    PutSame,
    Deactivate,
    Activate,
    Destroy,
    DeleteSecret,
    Forbid,
    Rotate,
    Create,
    Edit,
    Delete,
    Refresh,
    Hand,
    Foreign,
    Label,
    Access,
    Store,
    Confirm,
}

const WEIGHTS: [(usize, Change); 18] = [
    (22, Change::Put),
    (3, Change::PutSame),
    (8, Change::Deactivate),
    (8, Change::Activate),
    (3, Change::Destroy),
    (3, Change::DeleteSecret),
    (2, Change::Forbid),
    (1, Change::Rotate),
    (8, Change::Create),
    (20, Change::Edit),
    (5, Change::Delete),
    (2, Change::Refresh),
    (12, Change::Hand),
    (5, Change::Foreign),
    (2, Change::Label),
    (2, Change::Access),
    (2, Change::Store),
    (1, Change::Confirm),
];

impl Planner {
    fn before(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        for path in world::paths() {
            // The others are missing at first.
            for _ in 0..self.dice.weighted(&[(2, 0), (10, 1), (4, 3)]).unwrap_or(1) {
                actions.push(self.put(path.clone()));
            }
        }
        for namespace in NAMESPACES {
            for host in HOST_NAMES {
                actions.push(self.create_foreign(namespace, host));
            }
            for foreign in FOREIGN_NAMES.iter().take(2) {
                actions.push(self.create_foreign(namespace, foreign));
            }
        }
        for _ in 0..OBJECTS.0 {
            actions.extend(self.create());
        }
        actions
    }

    fn changes(&mut self, length: Duration) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = Duration::ZERO;
        while at < length {
            let change = self.dice.weighted(&WEIGHTS);
            // What cannot be done now, such as to reactivate where nothing is deactivated, is left out.
            if let Some(action) = change.and_then(|change| self.change(change)) {
                steps.push(Step { at, action });
                at += self.dice.between(PACE.0, PACE.1);
            }
        }
        steps
    }

    fn change(&mut self, change: Change) -> Option<Action> {
        match change {
            Change::Put => {
                let path = some_path(&mut self.dice);
                Some(self.put(path))
            }
            Change::PutSame => {
                let path = some_path(&mut self.dice);
                let data = self.world.okms.get(&path).filter(|secret| secret.current > 0)?.newest.clone();
                Some(Action::Put { data: self.world.put(&path, data), path })
            }
            Change::Deactivate => self.set_state(VersionState::Active, VersionState::Deactivated),
            Change::Activate => self.set_state(VersionState::Deactivated, VersionState::Active),
            Change::Destroy => self.set_state(VersionState::Active, VersionState::Destroyed),
            Change::DeleteSecret => {
                let path = some_path(&mut self.dice);
                self.world.okms.remove(&path)?;
                Some(Action::DeleteSecret { path })
            }
            Change::Forbid => {
                let mut paths = world::paths();
                let dice = &mut self.dice;
                let percent = dice.weighted(&[(6, 0), (2, 8), (1, 60)]).unwrap_or(0);
                paths.retain(|_| dice.percent(percent));
                Some(Action::Forbid { paths })
            }
            Change::Rotate => Some(Action::RotateCertificate),
            Change::Create => self.create(),
            Change::Edit => self.edit(),
            Change::Delete => {
                let object = self.some_object()?;
                self.world.objects.remove(&object);
                Some(Action::Delete { object })
            }
            Change::Refresh => {
                let object = self.some_object()?;
                Some(Action::Refresh { object, value: self.world.number().to_string() })
            }
            Change::Hand => self.hand(),
            Change::Foreign => self.foreign(),
            Change::Label => {
                let namespace = (*self.dice.pick(&NAMESPACES)?).to_owned();
                Some(Action::Label { namespace, admitted: self.dice.percent(75) })
            }
            Change::Access => {
                let all = ["*".to_owned()];
                let some = ["team/*".to_owned(), "shared/p25".to_owned()];
                let paths = if self.dice.percent(65) { all.to_vec() } else { some.to_vec() };
                Some(Action::Access { store: self.dice.pick(&[DEFAULT, SECOND])?, paths })
            }
            Change::Store => self.store(),
            Change::Confirm => Some(Action::Confirm),
        }
    }

    fn put(&mut self, path: String) -> Action {
        let data = self.world.content(&mut self.dice, &path);
        Action::Put { data: self.world.put(&path, data), path }
    }

    /// Mostly of the newest version, since that is what most objects read.
    fn set_state(&mut self, from: VersionState, to: VersionState) -> Option<Action> {
        let newest_only = self.dice.percent(70);
        let secrets = self.world.okms.iter();
        let versions = secrets.flat_map(|(path, secret)| secret.states.iter().map(move |state| (path, secret, state)));
        let fit = versions
            .filter(|(_, secret, (version, state))| **state == from && (!newest_only || **version == secret.current));
        let fit: Vec<_> = fit.map(|(path, _, (version, _))| (path.clone(), *version)).collect();
        let (path, version) = self.dice.pick(&fit)?.clone();
        self.world.okms.get_mut(&path)?.states.insert(version, to);
        Some(Action::SetState { path, version, state: to })
    }

    fn create(&mut self) -> Option<Action> {
        if self.world.objects.len() >= OBJECTS.1 {
            return None;
        }
        let namespace = (*self.dice.pick(&NAMESPACES)?).to_owned();
        // Some are made again under a name that was there before.
        let index = if self.next_name > 0 && self.dice.percent(25) {
            self.dice.below(self.next_name)
        } else {
            self.next_name += 1;
            self.next_name
        };
        let object = Key { namespace, name: format!("o{index:03}") };
        if self.world.objects.contains_key(&object) {
            return None;
        }
        let spec = some_spec(&mut self.dice, &self.world, &object);
        let json = spec.to_json();
        self.world.objects.insert(object.clone(), spec);
        Some(Action::Create { object, spec: json })
    }

    fn some_object(&mut self) -> Option<Key> {
        let objects: Vec<_> = self.world.objects.keys().cloned().collect();
        self.dice.pick(&objects).cloned()
    }

    fn edit(&mut self) -> Option<Action> {
        let object = self.some_object()?;
        let before = self.world.objects.get(&object)?.clone();
        let mut spec = before.clone();
        let what = self.vary(&object, &mut spec)?;
        let json = spec.to_json();
        if json == before.to_json() {
            return None;
        }
        self.world.objects.insert(object.clone(), spec);
        Some(Action::Edit { object, what, spec: json })
    }

    fn vary(&mut self, object: &Key, spec: &mut Spec) -> Option<&'static str> {
        let (dice, world) = (&mut self.dice, &self.world);
        // What is suspended shows nothing.
        if spec.suspend && dice.percent(50) {
            spec.suspend = false;
            return Some("suspend");
        }
        let source = dice.below(spec.sources.len());
        // A template names fields, which keys would rename.
        let plain = spec.template.is_none();
        let weights =
            [(5, "path"), (4, "pin"), (3, "keys"), (7, "target"), (3, "policy"), (2, "owner"), (2, "suspend")];
        let more =
            [(2, "interval"), (2, "type"), (2, "template"), (1, "immutable"), (2, "optional"), (2, "everything")];
        let what = dice.weighted(&[weights.as_slice(), more.as_slice()].concat())?;
        match what {
            "path" => {
                let path = some_path(dice);
                if spec.sources.iter().any(|source| source.path == path) {
                    return None;
                }
                let source = spec.sources.get_mut(source)?;
                source.pin = some_pin(dice, world, &path);
                source.path = path;
            }
            "pin" => {
                let source = spec.sources.get_mut(source)?;
                source.pin = some_pin(dice, world, &source.path);
            }
            "keys" if plain => spec.sources.get_mut(source)?.keys = some_keys(dice),
            "target" if spec.merges() => spec.target = dice.pick(&HOST_NAMES).map(|host| (*host).to_owned()),
            "target" => {
                spec.target = match dice.below(10) {
                    0..3 => None,
                    3..9 => Some(format!("{}-{}", object.name, dice.below(3))),
                    _ => dice.pick(&FOREIGN_NAMES).map(|foreign| (*foreign).to_owned()),
                };
            }
            "policy" => spec.policy = some_policy(dice),
            "owner" if !spec.merges() => spec.creation = some_creation(dice),
            "suspend" => spec.suspend = !spec.suspend,
            "interval" => spec.interval = some_interval(dice),
            "type" if !spec.merges() => {
                spec.kind = if spec.kind.is_none() { some_type(dice) } else { None };
            }
            "immutable" if !spec.merges() => spec.immutable = !spec.immutable,
            "template" if !spec.listed && !spec.merges() && spec.sources.iter().all(|source| source.keys.is_none()) => {
                spec.template = if spec.template.is_none() { some_template(dice) } else { None };
            }
            "optional" if spec.listed => {
                let source = spec.sources.get_mut(source)?;
                source.optional = !source.optional;
            }
            // Whether it merges is for good: what that means is another story.
            "everything" => {
                let other = some_spec(dice, world, object);
                if other.merges() != spec.merges() {
                    return None;
                }
                *spec = other;
            }
            _ => return None,
        }
        Some(what)
    }

    /// Counts that somebody lays hands on a Secret, if that may be.
    fn may_lay_hands_on(&mut self, secret: &Key) -> bool {
        let hands = self.world.hands.entry(secret.clone()).or_default();
        *hands += 1;
        *hands <= HANDS
    }

    fn hand(&mut self) -> Option<Action> {
        let object = self.some_object()?;
        let spec = self.world.objects.get(&object)?;
        // What is merged is edited as a foreign Secret.
        if spec.merges() {
            return None;
        }
        let secret = Key { name: spec.target(&object.name).to_owned(), ..object };
        let number = self.world.number();
        let how = self.dice.weighted(&[
            (4, Hand::ChangeValue(number)),
            (3, Hand::AddKey(number)),
            (2, Hand::RemoveKey(number)),
            (5, Hand::Delete),
            (1, Hand::StripOwnership(number)),
            (2, Hand::StripLabel(number)),
            (2, Hand::Annotate(number)),
        ])?;
        self.may_lay_hands_on(&secret).then_some(Action::Hand { secret, how })
    }

    fn create_foreign(&mut self, namespace: &str, name: &str) -> Action {
        let number = self.world.number();
        let secret = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        let data = json!({"own": format!("own-{number}"), "other": format!("other-{number}")});
        Action::CreateForeign { allow: self.consent(&secret), secret, data }
    }

    /// The names of those whom somebody lets have a Secret: a host is for all that merge into it.
    fn consent(&mut self, secret: &Key) -> Option<String> {
        let hosts = HOST_NAMES.contains(&secret.name.as_str());
        let objects = self.world.objects.iter().filter(|(object, spec)| {
            object.namespace == secret.namespace && spec.merges() == hosts && spec.target(&object.name) == secret.name
        });
        let names: Vec<_> = objects.map(|(object, _)| object.name.clone()).collect();
        match (hosts, self.dice.percent(if hosts { 85 } else { 40 })) {
            // Also those that come later.
            (true, true) => {
                Some((0..=self.next_name + 20).map(|index| format!("o{index:03}")).collect::<Vec<_>>().join(","))
            }
            (false, true) if !names.is_empty() => Some(names.join(",")),
            _ => None,
        }
    }

    fn foreign(&mut self) -> Option<Action> {
        let names = [HOST_NAMES.as_slice(), FOREIGN_NAMES.as_slice()].concat();
        let namespace = *self.dice.pick(&NAMESPACES)?;
        let name = *self.dice.pick(&names)?;
        let secret = Key { namespace: namespace.to_owned(), name: name.to_owned() };
        match self.dice.below(10) {
            0..3 => Some(self.create_foreign(namespace, name)),
            3..6 => {
                let value = format!("edited-{}", self.world.number());
                self.may_lay_hands_on(&secret).then_some(Action::EditForeign { secret, value })
            }
            6..8 => self.may_lay_hands_on(&secret).then_some(Action::DeleteForeign { secret }),
            _ => Some(Action::Allow { allow: self.consent(&secret), secret }),
        }
    }

    fn store(&mut self) -> Option<Action> {
        let deleted = self.world.deleted_stores.contains(SECOND);
        let store = *self.dice.pick(&[DEFAULT, SECOND, OWN])?;
        let edit = |field, value: Value| Some(Action::StoreEdit { store, field, value });
        match self.dice.below(10) {
            _ if store == SECOND && deleted => {
                self.world.deleted_stores.remove(SECOND);
                Some(Action::StoreCreate { store: SECOND })
            }
            0..2 if !deleted => {
                self.world.deleted_stores.insert(SECOND);
                Some(Action::StoreDelete { store: SECOND })
            }
            2..6 => edit("withdrawalPolicy", json!(self.dice.pick(&["Delete", "Retain"])?)),
            6..8 => edit("refreshInterval", json!(self.dice.pick(&["1s", "2s", "4s"])?)),
            _ => edit("maxWithdrawalsPerHour", self.dice.pick(&[json!("100%"), json!("20%"), json!(15)])?.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_mins(3);

    #[test]
    fn a_seed_is_a_plan() {
        let told = |seed| Plan::new(seed, LENGTH).noise.iter().map(|step| step.action.to_string()).collect::<Vec<_>>();
        assert_eq!(told(5), told(5));
        assert_ne!(told(5), told(6));
    }

    #[test]
    fn everything_happens_and_every_fault_ends() {
        let plans: Vec<_> = (0..8).map(|seed| Plan::new(seed, LENGTH)).collect();
        let kinds: std::collections::BTreeSet<_> =
            plans.iter().flat_map(|plan| &plan.noise).map(|step| step.action.kind()).collect();
        assert_eq!(kinds.len(), 25, "{kinds:?}");
        for plan in plans {
            let count = |kind: fn(&Action) -> bool| plan.noise.iter().filter(|step| kind(&step.action)).count();
            assert_eq!(
                count(|action| matches!(action, Action::Pause)),
                count(|action| matches!(action, Action::Continue))
            );
            assert_eq!(
                count(|action| matches!(action, Action::OkmsFault { .. })),
                count(|action| matches!(action, Action::OkmsFaultEnds { .. }))
            );
            assert_eq!(
                count(|action| matches!(action, Action::Kill | Action::KillStandby | Action::Terminate)),
                count(|action| matches!(action, Action::Start))
            );
            assert_eq!(
                count(|action| matches!(action, Action::KillApiServer | Action::KillEtcd)),
                count(|action| matches!(action, Action::Revive))
            );
            assert!(plan.noise.iter().all(|step| step.at <= LENGTH));
        }
    }
}
