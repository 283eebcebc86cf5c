//! Reading a plan: from YAML, with line, column and what was meant; then whether it holds together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Mode,
    action::{self, InvalidAction},
    spec::{Action, Does, Group, Order, Plan, people},
};
use crate::{ItemName, PointChoice, span::Span};

/// As Azure's: what is larger is several plans, which one run of a person can still overlook … times ten for fleets.
pub const MOST_GROUPS: usize = 100;
/// A group is one run: its history is read as a whole at each of its turns.
pub const MOST_ITEMS_OF_GROUP: usize = 100;
/// Of one place: they are done one after the other.
const MOST_ACTIONS: usize = 50;
/// More at once than any hypervisor starts well.
const MOST_PARALLEL: usize = 256;
const MOST_RETRIES: u32 = 10;
/// A plan nobody looks at for so long was forgotten.
const LONGEST: Span = Span::seconds(30 * 86_400);
/// A text that is longer is no plan that a person has read.
pub const MOST_TEXT: usize = 4 << 20;

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// The text is no plan.
    #[error("the plan can't be read: {0}")]
    Unreadable(String),
    /// Another format.
    #[error("the plan is of format {found}; this build reads 1")]
    Format {
        /// The one it says.
        found: u32,
    },
    /// Machines would be recovered where they run.
    #[error("the plan moves machines from site {site} to itself")]
    SameSite {
        /// Which.
        site: String,
    },
    /// None, or more than one run carries.
    #[error("{what}: {found}; there may be {least} to {most}")]
    Count {
        /// Of what.
        what: String,
        /// How many.
        found: usize,
        /// Lower limit.
        least: usize,
        /// Upper limit.
        most: usize,
    },
    /// Not a name.
    #[error("{name:?} is no name of {what}: 1 to 63 letters, digits, `.`, `_` and `-`")]
    Name {
        /// Of what.
        what: &'static str,
        /// As given.
        name: String,
    },
    /// Twice the same name.
    #[error("{what} {name} is there twice ({places})")]
    Twice {
        /// What.
        what: &'static str,
        /// Its name.
        name: String,
        /// Where.
        places: String,
    },
    /// Needs what is not in its group.
    #[error("item {item} of group {group} needs {needed}, which is not in that group; groups wait for the groups before them by themselves")]
    NotInGroup {
        /// Who needs.
        item: ItemName,
        /// Its group.
        group: String,
        /// What.
        needed: ItemName,
    },
    /// Each waits for the other.
    #[error("items of group {group} wait for each other in a circle: {circle}")]
    Cycle {
        /// In which group.
        group: String,
        /// The way round.
        circle: String,
    },
    /// An order that is not one of all groups.
    #[error("{what} must name each group once: {wrong}")]
    BadOrder {
        /// Which order.
        what: &'static str,
        /// What is wrong.
        wrong: String,
    },
    /// A role that nobody plays.
    #[error("{place} asks role {role}, which is not among the plan's roles ({known})")]
    NoSuchRole {
        /// Where.
        place: String,
        /// Which.
        role: String,
        /// Which there are.
        known: String,
    },
    /// More people than there are.
    #[error("{place} needs {need} people, but its roles have {people}")]
    TooFew {
        /// Where.
        place: String,
        /// As it says.
        need: usize,
        /// How many there are.
        people: usize,
    },
    /// No kind, or several.
    #[error("action {place} has {found} kinds; give exactly one of http, ssh, guest, command, dns, check, manual, approval")]
    Kinds {
        /// Where.
        place: String,
        /// How many.
        found: usize,
    },
    /// The action itself is wrong.
    #[error("action {place}: {why}")]
    Action {
        /// Where.
        place: String,
        /// Why.
        why: InvalidAction,
    },
    /// One point is for one machine.
    #[error("point {id} is one of one machine, and a plan has many; choose latest, latest-processed, latest-app-consistent, latest-multi-vm-processed or latest-multi-vm-app-consistent")]
    ExactPoint {
        /// As given.
        id: String,
    },
    /// Too long or too short.
    #[error("{what} is {found}; it must be between {least} and {most}")]
    Time {
        /// Which.
        what: String,
        /// As it says.
        found: Span,
        /// Lower limit.
        least: Span,
        /// Upper limit.
        most: Span,
    },
}

impl Plan {
    /// Reads a plan from YAML.
    ///
    /// # Errors
    /// [`InvalidPlan`], with line and column where the text is at fault.
    pub fn from_yaml(text: &str) -> Result<Self, InvalidPlan> {
        if text.len() > MOST_TEXT {
            let what = "bytes of the plan".to_owned();
            return Err(InvalidPlan::Count { what, found: text.len(), least: 1, most: MOST_TEXT });
        }
        let plan: Self = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let told = error.to_string();
            InvalidPlan::Unreadable(tab(text, usize::try_from(line).unwrap_or(1), &told).unwrap_or_else(|| said(&told)))
        })?;
        plan.check()?;
        Ok(plan)
    }

    /// Whether it holds together.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), InvalidPlan> {
        if self.version != 1 {
            return Err(InvalidPlan::Format { found: self.version });
        }
        if self.from == self.to {
            return Err(InvalidPlan::SameSite { site: self.from.to_string() });
        }
        if let PointChoice::Exact(id) = self.point {
            return Err(InvalidPlan::ExactPoint { id: id.to_string() });
        }
        count("groups".to_owned(), self.groups.len(), 1, MOST_GROUPS)?;
        count("machines prepared at once".to_owned(), self.parallel, 1, MOST_PARALLEL)?;
        let second = Span::seconds(1);
        for (what, span) in [("rto-target", self.rto_target), ("rpo-target", self.rpo_target), ("commit.after", self.commit.map(|c| c.after))] {
            span.map_or(Ok(()), |found| time(what.to_owned(), found, second))?;
        }
        self.roles.keys().try_for_each(|role| name("a role", role))?;
        self.no_item_twice()?;
        unique("group", self.groups.iter().map(|group| (group.name.clone(), "groups".to_owned())))?;
        self.actions("", &self.before, &self.after)?;
        self.groups.iter().try_for_each(|group| self.group(group))?;
        self.order("shut-down.order", self.shut_down.as_ref())?;
        self.order("failback.order", self.failback.as_ref())
    }

    fn no_item_twice(&self) -> Result<(), InvalidPlan> {
        unique("item", self.groups.iter().flat_map(|group| group.items.iter().map(|member| (member.item.to_string(), format!("group {}", group.name)))))
    }

    fn group(&self, group: &Group) -> Result<(), InvalidPlan> {
        name("a group", &group.name)?;
        count(format!("items of group {}", group.name), group.items.len(), 1, MOST_ITEMS_OF_GROUP)?;
        group.parallel.map_or(Ok(()), |parallel| count(format!("machines of group {} started at once", group.name), parallel, 1, MOST_PARALLEL))?;
        self.actions(&format!("{}/", group.name), &group.before, &group.after)?;
        for member in &group.items {
            let place = format!("{}/{}", group.name, member.item);
            count(format!("retries of {place}"), member.retries as usize, 0, MOST_RETRIES as usize)?;
            member.budget.map_or(Ok(()), |budget| time(format!("the budget of {place}"), budget, Span::seconds(1)))?;
            let strange = member.needs.iter().find(|needed| !group.items.iter().any(|other| other.item == **needed));
            if let Some(needed) = strange {
                return Err(InvalidPlan::NotInGroup { item: member.item.clone(), group: group.name.clone(), needed: needed.clone() });
            }
            self.actions(&format!("{place}/"), &member.before, &member.after)?;
        }
        circle(group)
    }

    /// Those of one place have different names, before and after alike: what receivers know them by does not say when.
    fn actions(&self, place: &str, before: &[Action], after: &[Action]) -> Result<(), InvalidPlan> {
        let placed = || [("before", before), ("after", after)].into_iter().flat_map(|(when, actions)| actions.iter().map(move |action| (when, action)));
        count(format!("actions of {place}before and {place}after"), before.len() + after.len(), 0, MOST_ACTIONS)?;
        unique("action", placed().map(|(when, action)| (action.name.clone(), format!("{place}{when}"))))?;
        placed().try_for_each(|(when, action)| self.action(&format!("{place}{when}/{}", action.name), action))
    }

    fn action(&self, place: &str, action: &Action) -> Result<(), InvalidPlan> {
        name("an action", &action.name)?;
        action.on.as_ref().map_or(Ok(()), |on| count(format!("modes of {place}"), on.len(), 1, Mode::ALL.len()))?;
        count(format!("retries of {place}"), action.retries as usize, 0, MOST_RETRIES as usize)?;
        match action.does().map_err(|found| InvalidPlan::Kinds { place: place.to_owned(), found })? {
            Does::Performed(performed) => {
                performed.check().map_err(|why| InvalidPlan::Action { place: place.to_owned(), why })
            }
            Does::Manual(manual) => {
                count(format!("letters of the instructions of {place}"), manual.instructions.trim().len(), 1, action::MOST_TEXT)?;
                time(format!("within of {place}"), manual.within, Span::seconds(1))?;
                self.asked(place, &manual.of, 1)
            }
            Does::Approval(approval) => {
                time(format!("within of {place}"), approval.within, Span::seconds(1))?;
                count(format!("roles of {place}"), approval.of.len(), 1, 32)?;
                count(format!("people that {place} needs"), approval.need, 1, 32)?;
                self.asked(place, &approval.of, approval.need)
            }
        }
    }

    fn asked(&self, place: &str, roles: &BTreeSet<String>, need: usize) -> Result<(), InvalidPlan> {
        if let Some(role) = roles.iter().find(|role| !self.roles.contains_key(*role)) {
            let known = if self.roles.is_empty() { "none".to_owned() } else { self.roles.keys().cloned().collect::<Vec<_>>().join(", ") };
            return Err(InvalidPlan::NoSuchRole { place: place.to_owned(), role: role.clone(), known });
        }
        let people = people(&self.roles, roles).len();
        if !roles.is_empty() && people < need {
            return Err(InvalidPlan::TooFew { place: place.to_owned(), need, people });
        }
        Ok(())
    }

    fn order(&self, what: &'static str, order: Option<&Order>) -> Result<(), InvalidPlan> {
        let Some(Order { order }) = order else { return Ok(()) };
        let known: BTreeSet<&String> = self.groups.iter().map(|group| &group.name).collect();
        let given: BTreeSet<&String> = order.iter().collect();
        let strange = given.difference(&known).map(|name| format!("{name} is no group"));
        let missing = known.difference(&given).map(|name| format!("{name} is missing"));
        let mut wrong: Vec<String> = strange.chain(missing).collect();
        if given.len() < order.len() {
            wrong.push("a group is there twice".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { Err(InvalidPlan::BadOrder { what, wrong: wrong.join(", ") }) }
    }
}

fn circle(group: &Group) -> Result<(), InvalidPlan> {
    let needs: BTreeMap<&ItemName, &BTreeSet<ItemName>> = group.items.iter().map(|member| (&member.item, &member.needs)).collect();
    let mut done: BTreeSet<&ItemName> = BTreeSet::new();
    loop {
        let free: Vec<&ItemName> =
            needs.iter().filter(|(item, needed)| !done.contains(*item) && needed.iter().all(|needed| done.contains(needed))).map(|(item, _)| *item).collect();
        if free.is_empty() {
            break;
        }
        done.extend(free);
    }
    let Some(first) = needs.keys().find(|item| !done.contains(*item)) else { return Ok(()) };
    let mut way: Vec<&ItemName> = vec![first];
    // Whoever is not done needs somebody who is not done: sooner or later somebody comes twice.
    while let Some(next) = way.last().and_then(|last| needs.get(*last)).and_then(|needed| needed.iter().find(|needed| !done.contains(needed))) {
        let seen = way.iter().position(|item| *item == next);
        way.push(next);
        if let Some(from) = seen {
            way.drain(..from);
            break;
        }
    }
    let circle = way.iter().map(ToString::to_string).collect::<Vec<_>>().join(" needs ");
    Err(InvalidPlan::Cycle { group: group.name.clone(), circle })
}

fn count(what: String, found: usize, least: usize, most: usize) -> Result<(), InvalidPlan> {
    if (least..=most).contains(&found) { Ok(()) } else { Err(InvalidPlan::Count { what, found, least, most }) }
}

fn time(what: String, found: Span, least: Span) -> Result<(), InvalidPlan> {
    if (least..=LONGEST).contains(&found) { Ok(()) } else { Err(InvalidPlan::Time { what, found, least, most: LONGEST }) }
}

fn name(what: &'static str, name: &str) -> Result<(), InvalidPlan> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=63).contains(&name.len()) && name.chars().all(plain) && !name.starts_with(['.', '-']);
    if fits { Ok(()) } else { Err(InvalidPlan::Name { what, name: name.to_owned() }) }
}

fn unique(what: &'static str, names: impl Iterator<Item = (String, String)>) -> Result<(), InvalidPlan> {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, place) in names {
        if let Some(before) = seen.get(&name) {
            let places = if *before == place { place } else { format!("{before} and {place}") };
            return Err(InvalidPlan::Twice { what, name, places });
        }
        seen.insert(name, place);
    }
    Ok(())
}

/// What the reader says to programmers, as it is said to people.
const IN_OTHER_WORDS: [(&str, &str); 7] = [
    ("multiple YAML documents detected", "another document begins here; a plan is one"),
    ("cannot deserialize null", "nothing stands here, and a text is needed"),
    ("expected sequence start", "a list is needed here"),
    ("expected mapping start", "keys with values are needed here"),
    ("expected string scalar", "a text is needed here"),
    ("invalid u32", "a whole number is needed here"),
    ("invalid u64", "a whole number is needed here"),
];

/// Where a tab stands in an indentation: the reader names the place where it began to read what the tab breaks off.
fn tab(text: &str, from_line: usize, told: &str) -> Option<String> {
    let lines = if told.lines().next().is_some_and(|line| line.contains(" tab")) { usize::MAX } else { 1 };
    let mut found = text.lines().enumerate().skip(from_line.saturating_sub(1)).take(lines).filter(|(_, line)| !line.trim().is_empty());
    found.find_map(|(place, line)| {
        let column = line.find(|c| c != ' ').filter(|column| line[*column..].starts_with('\t'))? + 1;
        Some(format!("line {} column {column}: a tab stands here; lines are indented by spaces", place + 1))
    })
}

/// The first line of what the reader says, without its advice to programmers, with the key that was probably meant.
fn said(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(", set DuplicateKeyPolicy").next().unwrap_or_default().trim_start_matches("error: ");
    if let Some((place, plain)) = IN_OTHER_WORDS.iter().find_map(|(theirs, ours)| Some((line.split_once(theirs)?.0, ours))) {
        return format!("{place}{plain}");
    }
    let unknown = line.contains("unknown field") || line.contains("unknown variant");
    let (Some(given), Some((_, expected))) = (line.split('`').nth(1), line.split_once("expected ")) else { return line.to_owned() };
    let known = expected.trim_start_matches("one of ").split([',', ' ']).map(|word| word.trim_matches('`')).filter(|word| !word.is_empty() && *word != "or");
    let nearest = known.map(|known| (strsim::damerau_levenshtein(given, known), known)).min().filter(|_| unknown);
    match nearest {
        Some((distance, meant)) if distance <= 3 && distance < given.len() => format!("{line}; did you mean `{meant}`?"),
        Some(_) | None => line.to_owned(),
    }
}
