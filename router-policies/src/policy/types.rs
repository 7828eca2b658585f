//! Types of conditions, told without a request: what short circuits hide from a trial run is found here, and a word that
//! a name can never be. Must never accept what CEL would refuse on every request.

use super::condition::ConditionFault;
use super::node::{Node, unknown};
use crate::features::Kind;

/// Of a node. A list knows the kind of its items; an empty one fits all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    One(Kind),
    ListOf(Option<Kind>),
}

/// # Errors
/// Some sides do not fit together, or the condition gives no bool.
pub(super) fn check(node: &Node) -> Result<(), ConditionFault> {
    match of(node)? {
        Type::One(Kind::Bool) => Ok(()),
        other => Err(ConditionFault::new(
            format!("the condition gives {}, not true or false", name(other)),
            "compare it with something, as in `tools_count > 0`",
        )),
    }
}

fn name(of: Type) -> &'static str {
    match of {
        Type::One(Kind::Bool) => "true or false",
        Type::One(Kind::Int | Kind::Double) => "a number",
        Type::One(Kind::Text) => "a text",
        Type::One(Kind::Texts) | Type::ListOf(_) => "a list",
    }
}

fn is_number(of: Type) -> bool {
    matches!(of, Type::One(Kind::Int | Kind::Double))
}

fn of(node: &Node) -> Result<Type, ConditionFault> {
    let wants = |inner: &Node, wanted: Kind| match of(inner)? {
        Type::One(kind) if kind == wanted => Ok(()),
        other => Err(misfit(node, &format!("`{inner}` is {}, not {}", name(other), name(Type::One(wanted))))),
    };
    Ok(Type::One(match node {
        Node::Bool(_) => Kind::Bool,
        Node::Int(_) => Kind::Int,
        Node::Double(_) => Kind::Double,
        Node::Text(_) => Kind::Text,
        Node::Variable(variable) => match variable.kind() {
            Kind::Texts => return Ok(Type::ListOf(Some(Kind::Text))),
            kind => kind,
        },
        Node::List(items) => return list(node, items),
        Node::Not(inner) => {
            wants(inner, Kind::Bool)?;
            Kind::Bool
        }
        Node::Negative(inner) => match of(inner)? {
            Type::One(kind @ (Kind::Int | Kind::Double)) => kind,
            other => return Err(misfit(node, &format!("`{inner}` is {}, not a number", name(other)))),
        },
        Node::Choice(parts) => {
            wants(&parts[0], Kind::Bool)?;
            let (yes, no) = (of(&parts[1])?, of(&parts[2])?);
            if yes != no {
                return Err(misfit(node, &format!("it gives {} or {}", name(yes), name(no))));
            }
            return Ok(yes);
        }
        Node::Binary("&&" | "||", sides) => {
            sides.iter().try_for_each(|side| wants(side, Kind::Bool))?;
            Kind::Bool
        }
        Node::Binary(sign, sides) => binary(node, sign, sides)?,
        Node::Call(function, parts) => call(node, function, parts)?,
    }))
}

fn list(node: &Node, items: &[Node]) -> Result<Type, ConditionFault> {
    let mut kind = None;
    for item in items {
        let Type::One(own) = of(item)? else { return Err(misfit(node, "a list in a list")) };
        if *kind.get_or_insert(own) != own {
            return Err(misfit(node, "its items are of several kinds"));
        }
    }
    Ok(Type::ListOf(kind))
}

fn binary(node: &Node, sign: &str, sides: &[Node; 2]) -> Result<Kind, ConditionFault> {
    let (left, right) = (of(&sides[0])?, of(&sides[1])?);
    match sign {
        "in" => {
            let fits = match right {
                Type::ListOf(kind) => kind.is_none_or(|kind| left == Type::One(kind)),
                Type::One(_) => return Err(misfit(node, &format!("`{}` is {}, not a list", sides[1], name(right)))),
            };
            if !fits {
                return Err(misfit(node, &format!("{} is never in such a list", name(left))));
            }
            if let Node::List(items) = &sides[1] {
                items.iter().try_for_each(|item| known_word(&sides[0], item))?;
            }
            Ok(Kind::Bool)
        }
        "==" | "!=" => {
            if left != right && !(is_number(left) && is_number(right)) {
                return Err(misfit(node, &format!("{} is never {}", name(left), name(right))));
            }
            known_word(&sides[0], &sides[1])?;
            known_word(&sides[1], &sides[0])?;
            Ok(Kind::Bool)
        }
        "<" | "<=" | ">" | ">=" => {
            let both_text = left == right && left == Type::One(Kind::Text);
            match (is_number(left) && is_number(right)) || both_text {
                true => Ok(Kind::Bool),
                false => Err(misfit(node, &format!("{} has no order with {}", name(left), name(right)))),
            }
        }
        "+" if left == right && left == Type::One(Kind::Text) => Ok(Kind::Text),
        _ => match (left, right) {
            (Type::One(Kind::Int), Type::One(Kind::Int)) => Ok(Kind::Int),
            (Type::One(Kind::Double), Type::One(Kind::Double)) if sign != "%" => Ok(Kind::Double),
            (left, right) if is_number(left) && is_number(right) => {
                let fault = misfit(node, "a whole number and one with a fraction do not mix");
                Err(ConditionFault {
                    help: "write the constant as the other side is, `2.0` for `2`".to_owned(),
                    ..fault
                })
            }
            _ => Err(misfit(node, &format!("there is no {sign} for {} and {}", name(left), name(right)))),
        },
    }
}

fn call(node: &Node, function: &str, parts: &[Node]) -> Result<Kind, ConditionFault> {
    let types = parts.iter().map(of).collect::<Result<Vec<_>, _>>()?;
    let text = Type::One(Kind::Text);
    match (function, &types[..]) {
        ("size", [Type::One(Kind::Text) | Type::ListOf(_)]) => Ok(Kind::Int),
        ("contains", [Type::ListOf(kind), item]) if kind.is_none_or(|kind| *item == Type::One(kind)) => Ok(Kind::Bool),
        ("contains" | "startsWith" | "endsWith", [whole, part]) if *whole == text && *part == text => Ok(Kind::Bool),
        ("size", _) => Err(misfit(node, "size is for one text or list")),
        _ => Err(misfit(node, &format!("{function} is for a text and a part of it"))),
    }
}

/// A name that can be only so many words is compared with one of them.
fn known_word(variable: &Node, word: &Node) -> Result<(), ConditionFault> {
    match (variable, word) {
        (Node::Variable(variable), Node::Text(word)) => {
            let words = variable.words();
            match words.is_empty() || words.contains(&word.as_str()) {
                true => Ok(()),
                false => Err(unknown(&format!("word for `{variable}`:"), word, words.iter().copied())),
            }
        }
        _ => Ok(()),
    }
}

fn misfit(node: &Node, why: &str) -> ConditionFault {
    ConditionFault::new(format!("`{node}` makes no sense: {why}"), "")
}
