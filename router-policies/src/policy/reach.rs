//! Which rules can ever decide. A condition becomes a formula over comparisons with constants; a search over one value
//! from each range that matters tells whether all of a set can hold together. What it cannot see through (arithmetic,
//! two names compared) may be true or false, so "never" is always right and "perhaps" may be too kind. Must never take
//! long: a search gives up, kindly, after so many steps, and all of a policy's after so many comparisons.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::node::Node;
use super::variables::Variable;
use crate::facts::BackendRole;
use crate::features::Kind;

/// Steps of one search.
const MOST_STEPS: u32 = 20_000;
/// Comparisons of all searches about one policy: about a second. Its rules are looked at in pairs, and each pair's
/// conditions anew in each step.
const MOST_WORK: u32 = 2_000_000;

/// Comparisons that may still be made.
pub(super) struct Work(Cell<u32>);

impl Default for Work {
    fn default() -> Self {
        Work(Cell::new(MOST_WORK))
    }
}

impl Work {
    fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    fn spend(&self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// One value from each range.
#[derive(Debug, Clone, PartialEq)]
enum Point {
    Bool(bool),
    Number(f64),
    /// `None`: a text that no condition names.
    Text(Option<String>),
}

/// Whether all of `hold` can be true while all of `fail` are false.
pub(super) fn possible(hold: &[&Node], fail: &[&Node], work: &Work) -> bool {
    if work.is_spent() {
        return true;
    }
    let mut names = Names::default();
    hold.iter().chain(fail).for_each(|node| names.read(node));
    let points: Vec<(String, Vec<Point>)> = names.points();
    let mut search = Search { hold, fail, points: &points, chosen: BTreeMap::new(), steps: 0, work };
    search.from(0)
}

/// The texts that `variable` is compared with.
pub(super) fn texts_of(node: &Node, variable: &Variable) -> Vec<String> {
    let of = |part: &Node| texts_of(part, variable);
    match node {
        Node::Not(inner) => of(inner),
        Node::Binary("&&" | "||", sides) => sides.iter().flat_map(of).collect(),
        Node::Choice(parts) => parts.iter().flat_map(of).collect(),
        _ => match Atom::of(node) {
            Some(Atom { variable: name, test: Test::OneOf(texts, _) }) if name == variable.to_string() => texts,
            _ => Vec::new(),
        },
    }
}

struct Search<'a> {
    hold: &'a [&'a Node],
    fail: &'a [&'a Node],
    points: &'a [(String, Vec<Point>)],
    chosen: BTreeMap<&'a str, &'a Point>,
    steps: u32,
    work: &'a Work,
}

impl Search<'_> {
    fn from(&mut self, at: usize) -> bool {
        self.steps += 1;
        if self.steps > MOST_STEPS || self.work.is_spent() {
            return true;
        }
        let wrong = self.hold.iter().any(|node| self.value(node) == Some(false))
            || self.fail.iter().any(|node| self.value(node) == Some(true));
        if wrong {
            return false;
        }
        let points = self.points;
        let Some((name, values)) = points.get(at) else { return true };
        for value in values {
            self.chosen.insert(name, value);
            if self.from(at + 1) {
                return true;
            }
        }
        self.chosen.remove(name.as_str());
        false
    }

    /// `None`: not yet known.
    fn value(&self, node: &Node) -> Option<bool> {
        match node {
            Node::Bool(value) => Some(*value),
            Node::Not(inner) => self.value(inner).map(|value| !value),
            Node::Binary("&&", sides) => match (self.value(&sides[0]), self.value(&sides[1])) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Node::Binary("||", sides) => match (self.value(&sides[0]), self.value(&sides[1])) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Node::Choice(parts) => match self.value(&parts[0])? {
                true => self.value(&parts[1]),
                false => self.value(&parts[2]),
            },
            _ => {
                self.work.spend();
                match Atom::of(node) {
                    Some(Atom { variable, test }) => Some(test.holds(self.chosen.get(variable.as_str())?)),
                    None => match self.chosen.get(node.to_string().as_str())? {
                        Point::Bool(value) => Some(*value),
                        Point::Number(_) | Point::Text(_) => None,
                    },
                }
            }
        }
    }
}

/// A comparison of one name with constants.
struct Atom {
    variable: String,
    test: Test,
}

enum Test {
    IsTrue,
    Number(&'static str, f64),
    OneOf(Vec<String>, bool),
}

impl Test {
    fn holds(&self, point: &Point) -> bool {
        match (self, point) {
            (Test::IsTrue, Point::Bool(value)) => *value,
            (Test::Number(sign, constant), Point::Number(value)) => match *sign {
                "<" => value < constant,
                "<=" => value <= constant,
                ">" => value > constant,
                ">=" => value >= constant,
                "==" => value == constant,
                _ => value != constant,
            },
            (Test::OneOf(texts, holds), Point::Text(value)) => {
                value.as_ref().is_some_and(|value| texts.contains(value)) == *holds
            }
            _ => false,
        }
    }
}

impl Atom {
    fn of(node: &Node) -> Option<Atom> {
        let named = |variable: &Variable| variable.to_string();
        match node {
            Node::Variable(variable) if variable.kind() == Kind::Bool => {
                Some(Atom { variable: named(variable), test: Test::IsTrue })
            }
            Node::Binary(sign, sides) => match (&sides[0], &sides[1]) {
                (Node::Variable(variable), Node::List(items)) if *sign == "in" => {
                    let text = |item: &Node| match item {
                        Node::Text(text) => Some(text.clone()),
                        _ => None,
                    };
                    let texts = items.iter().map(text).collect::<Option<Vec<_>>>()?;
                    (variable.kind() == Kind::Text)
                        .then(|| Atom { variable: named(variable), test: Test::OneOf(texts, true) })
                }
                (Node::Variable(variable), Node::Text(text)) if ["==", "!="].contains(sign) => {
                    Some(Atom { variable: named(variable), test: Test::OneOf(vec![text.clone()], *sign == "==") })
                }
                (Node::Variable(variable), constant) => Some(Atom {
                    variable: named(variable),
                    test: Test::Number(sign, number(constant).filter(|_| is_numeric(variable))?),
                }),
                (constant, Node::Variable(variable)) => Some(Atom {
                    variable: named(variable),
                    test: Test::Number(turned(sign)?, number(constant).filter(|_| is_numeric(variable))?),
                }),
                _ => None,
            },
            _ => None,
        }
    }
}

fn is_numeric(variable: &Variable) -> bool {
    matches!(variable.kind(), Kind::Int | Kind::Double)
}

fn number(node: &Node) -> Option<f64> {
    match node {
        Node::Int(value) => Some(*value as f64),
        Node::Double(value) => Some(*value),
        Node::Negative(inner) => number(inner).map(|value| -value),
        _ => None,
    }
}

fn turned(sign: &str) -> Option<&'static str> {
    Some(match sign {
        "<" => ">",
        "<=" => ">=",
        ">" => "<",
        ">=" => "<=",
        "==" => "==",
        "!=" => "!=",
        _ => return None,
    })
}

/// What each name is compared with.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, (Vec<f64>, bool, f64)>,
    texts: BTreeMap<String, (Vec<String>, &'static [&'static str])>,
    bools: Vec<String>,
}

impl Names {
    fn read(&mut self, node: &Node) {
        match node {
            Node::Bool(_) => {}
            Node::Not(inner) => self.read(inner),
            Node::Binary("&&" | "||", sides) => sides.iter().for_each(|side| self.read(side)),
            Node::Choice(parts) => parts.iter().for_each(|part| self.read(part)),
            _ => {
                let variable = match node {
                    Node::Variable(variable) => Some(variable),
                    Node::Binary(_, sides) => sides.iter().find_map(|side| match side {
                        Node::Variable(variable) => Some(variable),
                        _ => None,
                    }),
                    _ => None,
                };
                match (Atom::of(node), variable) {
                    (Some(Atom { variable: name, test: Test::Number(_, constant) }), Some(variable)) => {
                        let most = if *variable == Variable::Known("hour") { 23.0 } else { f64::INFINITY };
                        let entry = self.numbers.entry(name);
                        let entry = entry.or_insert_with(|| (Vec::new(), variable.kind() == Kind::Int, most));
                        entry.0.push(constant);
                    }
                    (Some(Atom { variable: name, test: Test::OneOf(texts, _) }), Some(variable)) => {
                        self.texts.entry(name).or_insert_with(|| (Vec::new(), variable.words())).0.extend(texts);
                    }
                    (Some(Atom { variable: name, test: Test::IsTrue }), _) => self.flag(name),
                    _ => self.flag(node.to_string()),
                }
            }
        }
    }

    fn flag(&mut self, name: String) {
        if !self.bools.contains(&name) {
            self.bools.push(name);
        }
    }

    fn points(self) -> Vec<(String, Vec<Point>)> {
        let flags = || vec![Point::Bool(true), Point::Bool(false)];
        let bools = self.bools.into_iter().map(|name| (name, flags()));
        let texts = self.texts.into_iter().map(|(name, (mut texts, words))| {
            texts.sort_unstable();
            texts.dedup();
            let open = words.is_empty() || words.iter().any(|word| texts.iter().all(|text| text != word));
            let other = open.then_some(Point::Text(None));
            (name, texts.into_iter().map(|text| Point::Text(Some(text))).chain(other).collect())
        });
        let numbers = self.numbers.into_iter().map(|(name, (mut constants, whole, most))| {
            constants.sort_by(f64::total_cmp);
            constants.dedup();
            let mut points = Vec::new();
            for (at, constant) in constants.iter().enumerate() {
                let before = at.checked_sub(1).map(|before| constants[before]);
                let between = match (whole, before) {
                    (true, _) => constant.ceil() - 1.0,
                    (false, Some(before)) => (before + constant) / 2.0,
                    (false, None) => constant / 2.0,
                };
                points.extend([between, *constant]);
            }
            points.extend(constants.last().map(|last| last.floor() + 1.0));
            points.retain(|point| !whole || point.fract() == 0.0);
            // Everything a condition can count is zero or more.
            points.retain(|point| (0.0..=most).contains(point));
            points.dedup();
            (name, points.into_iter().map(Point::Number).collect())
        });
        bools.chain(texts).chain(numbers).collect()
    }
}

/// Facts of a request that keep whole roles from it, with the names that stand for them.
pub(super) fn demands(node: &Node) -> Vec<(&'static str, BackendRole)> {
    let told = [("tail_is_tool_result", BackendRole::Diffusion)];
    let work = Work::default();
    let implies = |name: &'static str| !possible(&[node], &[&Node::Variable(Variable::Feature(name))], &work);
    told.into_iter().filter(|(name, _)| implies(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::condition::Condition;
    use super::*;

    fn node(condition: &str) -> Node {
        Condition::parse(condition).unwrap_or_else(|fault| panic!("{fault:?}")).node
    }

    #[test]
    fn what_can_hold_together_is_told_from_what_cannot() {
        for (hold, fail, expected) in [
            ("max_tokens > 5 && max_tokens < 3", "false", false),
            ("max_tokens > 5 && max_tokens < 7", "false", true),
            ("max_tokens > 5 && max_tokens < 6", "false", false),
            ("max_tokens < 0", "false", false),
            ("tool_needed && question", "tool_needed", false),
            ("tool_needed", "tool_needed && question", true),
            ("trigger == 'cron'", "trigger in ['cron', 'heartbeat']", false),
            ("trigger != 'cron'", "trigger in ['cron', 'heartbeat']", true),
            ("trigger in ['user']", "trigger != 'cron'", false),
            ("tenant == 'a'", "tenant == 'b'", true),
            ("hour > 22", "hour == 23", false),
            ("max_tokens > 10", "max_tokens > 5 || tool_needed", false),
            ("10 < max_tokens", "max_tokens >= 11", false),
            (
                "predicted.ar.total_ms < predicted.diffusion.total_ms",
                "predicted.ar.total_ms < predicted.diffusion.total_ms",
                false,
            ),
            ("predicted.ar.total_ms < predicted.diffusion.total_ms", "predicted.ar.total_ms < 100.0", true),
            ("family_probability > 0.5", "family_probability >= 0.5", false),
            ("tool_needed ? question : max_tokens > 1", "question || max_tokens > 0", false),
            ("max_tokens > 5.5 && max_tokens < 6.5", "false", true),
            ("max_tokens > 5.25 && max_tokens < 5.75", "false", false),
        ] {
            assert_eq!(possible(&[&node(hold)], &[&node(fail)], &Work::default()), expected, "{hold} without {fail}");
        }
    }

    #[test]
    fn who_has_no_work_left_takes_all_for_possible() {
        let never = node("max_tokens > 5 && max_tokens < 3");
        let work = Work(Cell::new(100));
        assert!(!possible(&[&never], &[], &work), "a few are enough");
        while !work.is_spent() {
            possible(&[&never], &[], &work);
        }
        assert!(possible(&[&never], &[], &work));
    }

    #[test]
    fn a_demand_is_seen_through() {
        assert_eq!(demands(&node("tail_is_tool_result && max_tokens > 3")).len(), 1);
        assert!(demands(&node("tail_is_tool_result || max_tokens > 3")).is_empty());
    }
}
