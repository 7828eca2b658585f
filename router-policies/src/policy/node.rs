//! A condition as a small tree of our own: what types, reach and explanations are told from. Making one refuses every
//! name that is not a feature, a fact or an allowed function. Must never evaluate: that is CEL's.

use std::collections::BTreeSet;
use std::fmt;

use cel::common::ast::{Expr, IdedExpr, LiteralValue, operators};

use super::condition::ConditionFault;
use super::diagnostic::nearest_help;
use super::variables::{self, BACKEND_FACTS, BACKENDS, PREDICTED, PREDICTED_FACTS, VARIABLES, Variable};
use crate::facts::BackendRole;
use crate::features::FEATURES;

/// Most operators within each other: what reads, checks and evaluates a condition goes down by calls, and a stack that does
/// not suffice ends the process.
const DEEPEST: usize = 100;

/// Functions a condition may call, besides operators.
const FUNCTIONS: [&str; 4] = ["size", "contains", "startsWith", "endsWith"];

/// Operators with what stands between their sides, and how strongly they bind.
const BINARY: [(&str, &str, u8); 14] = [
    (operators::LOGICAL_OR, "||", 1),
    (operators::LOGICAL_AND, "&&", 2),
    (operators::EQUALS, "==", 3),
    (operators::NOT_EQUALS, "!=", 3),
    (operators::GREATER_EQUALS, ">=", 3),
    (operators::LESS_EQUALS, "<=", 3),
    (operators::GREATER, ">", 3),
    (operators::LESS, "<", 3),
    (operators::IN, "in", 3),
    (operators::ADD, "+", 4),
    (operators::SUBSTRACT, "-", 4),
    (operators::MULTIPLY, "*", 5),
    (operators::DIVIDE, "/", 5),
    (operators::MODULO, "%", 5),
];

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
    List(Vec<Node>),
    Variable(Variable),
    Not(Box<Node>),
    Negative(Box<Node>),
    Choice(Box<[Node; 3]>),
    /// By the sign between the sides.
    Binary(&'static str, Box<[Node; 2]>),
    Call(&'static str, Vec<Node>),
}

impl Node {
    /// # Errors
    /// The expression names what there is not.
    pub(super) fn of(expression: &IdedExpr) -> Result<Node, ConditionFault> {
        Node::below(expression, DEEPEST)
    }

    fn below(expression: &IdedExpr, left: usize) -> Result<Node, ConditionFault> {
        let Some(left) = left.checked_sub(1) else {
            let message = format!("more than {DEEPEST} operators are within each other");
            return Err(ConditionFault::new(message, "split it into several rules with the same attempts"));
        };
        let of = |part: &IdedExpr| Node::below(part, left);
        match &expression.expr {
            Expr::Literal(value) => literal(value),
            Expr::Ident(name) if name == BACKENDS || name == PREDICTED => Err(incomplete(name, &[])),
            Expr::Ident(name) => named(name).map(Node::Variable),
            Expr::Select(_) => path(expression).map(Node::Variable),
            Expr::List(list) => Ok(Node::List(list.elements.iter().map(of).collect::<Result<_, _>>()?)),
            Expr::Call(call) if call.func_name == operators::INDEX => path(expression).map(Node::Variable),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let parts = call.target.iter().map(|target| &**target).chain(&call.args).map(of);
                let known = BINARY.iter().find(|(known, ..)| *known == name);
                let function = FUNCTIONS.iter().find(|known| **known == name);
                match (name, known, function) {
                    (operators::LOGICAL_NOT | operators::NEGATE | operators::CONDITIONAL, ..) => {
                        fixed(name, parts.collect::<Result<_, _>>()?)
                    }
                    (_, Some((_, sign, _)), _) => match parts.collect::<Result<Vec<_>, _>>()?.try_into() {
                        Ok(sides) => Ok(Node::Binary(sign, Box::new(sides))),
                        Err(_) => Err(unfit(sign)),
                    },
                    (_, _, Some(function)) => Ok(Node::Call(function, parts.collect::<Result<_, _>>()?)),
                    _ => Err(unknown("function or operator", name, FUNCTIONS)),
                }
            }
            Expr::Unspecified => {
                Err(ConditionFault::new("the condition is empty", "leave `when` out to match every request"))
            }
            Expr::Comprehension(_) | Expr::Map(_) | Expr::Struct(_) => {
                Err(ConditionFault::new("conditions have no loops, maps or structs", "`x in list` asks about a list"))
            }
        }
    }

    /// Adds everything it names.
    pub(super) fn names(&self, out: &mut BTreeSet<Variable>) {
        match self {
            Node::Variable(variable) => {
                out.insert(variable.clone());
            }
            Node::List(items) | Node::Call(_, items) => items.iter().for_each(|item| item.names(out)),
            Node::Not(inner) | Node::Negative(inner) => inner.names(out),
            Node::Choice(parts) => parts.iter().for_each(|part| part.names(out)),
            Node::Binary(_, sides) => sides.iter().for_each(|side| side.names(out)),
            Node::Bool(_) | Node::Int(_) | Node::Double(_) | Node::Text(_) => {}
        }
    }

    fn binds(&self) -> u8 {
        match self {
            Node::Choice(_) => 0,
            Node::Binary(sign, _) => BINARY.iter().find(|(_, known, _)| known == sign).map_or(0, |(.., binds)| *binds),
            Node::Not(_) | Node::Negative(_) => 6,
            _ => 7,
        }
    }
}

/// As an operator would write it: no more brackets than needed.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let within = |f: &mut fmt::Formatter<'_>, inner: &Node, least: u8| match inner.binds() < least {
            true => write!(f, "({inner})"),
            false => write!(f, "{inner}"),
        };
        let listed = |f: &mut fmt::Formatter<'_>, items: &[Node]| {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    f.write_str(", ")?;
                }
                write!(f, "{item}")?;
            }
            Ok(())
        };
        match self {
            Node::Bool(value) => write!(f, "{value}"),
            Node::Int(value) => write!(f, "{value}"),
            Node::Double(value) => write!(f, "{value:?}"),
            Node::Text(value) => write!(f, "'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
            Node::List(items) => {
                f.write_str("[")?;
                listed(f, items)?;
                f.write_str("]")
            }
            Node::Variable(variable) => write!(f, "{variable}"),
            Node::Not(inner) => {
                f.write_str("!")?;
                within(f, inner, 6)
            }
            Node::Negative(inner) => {
                f.write_str("-")?;
                within(f, inner, 7)
            }
            Node::Choice(parts) => {
                within(f, &parts[0], 1)?;
                f.write_str(" ? ")?;
                within(f, &parts[1], 1)?;
                f.write_str(" : ")?;
                within(f, &parts[2], 0)
            }
            Node::Binary(sign, sides) => {
                let binds = self.binds();
                within(f, &sides[0], binds)?;
                write!(f, " {sign} ")?;
                within(f, &sides[1], binds + 1)
            }
            Node::Call(name, parts) => {
                write!(f, "{name}(")?;
                listed(f, parts)?;
                f.write_str(")")
            }
        }
    }
}

fn literal(value: &LiteralValue) -> Result<Node, ConditionFault> {
    Ok(match value {
        LiteralValue::Boolean(value) => Node::Bool(*value.inner()),
        LiteralValue::Int(value) => Node::Int(*value.inner()),
        LiteralValue::Double(value) => Node::Double(*value.inner()),
        LiteralValue::String(value) => Node::Text(value.inner().to_owned()),
        LiteralValue::UInt(_) | LiteralValue::Bytes(_) | LiteralValue::Null => {
            return Err(ConditionFault::new(
                "conditions have no bytes, no unsigned numbers and no null",
                "every name has a value: 0, an empty text or false where nothing is known",
            ));
        }
    })
}

fn fixed(name: &str, parts: Vec<Node>) -> Result<Node, ConditionFault> {
    let mut parts = parts.into_iter();
    match (name, parts.next(), parts.next(), parts.next()) {
        (operators::LOGICAL_NOT, Some(inner), None, None) => Ok(Node::Not(Box::new(inner))),
        (operators::NEGATE, Some(inner), None, None) => Ok(Node::Negative(Box::new(inner))),
        (_, Some(condition), Some(yes), Some(no)) => Ok(Node::Choice(Box::new([condition, yes, no]))),
        _ => Err(unfit(name)),
    }
}

fn unfit(sign: &str) -> ConditionFault {
    ConditionFault::new(format!("`{sign}` has too few or too many sides"), "")
}

fn named(name: &str) -> Result<Variable, ConditionFault> {
    if let Some(info) = variables::feature(name) {
        return Ok(Variable::Feature(info.name));
    }
    if let Some(info) = variables::of(&VARIABLES, name) {
        return Ok(Variable::Known(info.name));
    }
    let known = FEATURES.iter().map(|info| info.name).chain(VARIABLES.iter().map(|info| info.name));
    Err(unknown("variable", name, known.chain([BACKENDS, PREDICTED])))
}

/// A chain of field selections: `backends.<role>.<fact>`, `predicted.<role or backend>.<fact>`, or with the backend's
/// name in square brackets.
fn path(expression: &IdedExpr) -> Result<Variable, ConditionFault> {
    let mut segments = Vec::new();
    let mut inner = &expression.expr;
    let root = loop {
        match inner {
            Expr::Select(select) => {
                segments.push(select.field.as_str());
                inner = &select.operand.expr;
            }
            Expr::Call(call) if call.func_name == operators::INDEX && call.args.len() == 2 => {
                let Expr::Literal(LiteralValue::String(name)) = &call.args[1].expr else {
                    return Err(ConditionFault::new("only a text in quotes may stand in square brackets", ""));
                };
                segments.push(name.inner());
                inner = &call.args[0].expr;
            }
            Expr::Ident(root) => break root.as_str(),
            _ => return Err(ConditionFault::new("only `backends` and `predicted` have fields", "")),
        }
    };
    segments.reverse();
    match (root, &segments[..]) {
        (BACKENDS, [role, fact]) => {
            let roles = BackendRole::ALL.map(BackendRole::as_str);
            let Some(role) = BackendRole::ALL.into_iter().find(|known| known.as_str() == *role) else {
                return Err(unknown("backend role", role, roles));
            };
            match variables::of(&BACKEND_FACTS, fact) {
                Some(info) => Ok(Variable::Backend(role, info.name)),
                None => Err(unknown("backend fact", fact, BACKEND_FACTS.iter().map(|info| info.name))),
            }
        }
        (PREDICTED, [subject, fact]) => match variables::of(&PREDICTED_FACTS, fact) {
            Some(info) => Ok(Variable::Predicted((*subject).to_owned(), info.name)),
            None => Err(unknown("prediction", fact, PREDICTED_FACTS.iter().map(|info| info.name))),
        },
        (BACKENDS | PREDICTED, _) => Err(incomplete(root, &segments)),
        _ => Err(ConditionFault::new(
            format!("`{root}` has no field `{}`", segments.join(".")),
            "only `backends` and `predicted` have fields, as in `backends.ar.present`",
        )),
    }
}

fn incomplete(root: &str, segments: &[&str]) -> ConditionFault {
    let written = [&[root], segments].concat().join(".");
    match root {
        BACKENDS => ConditionFault::new(
            format!("`{written}` names no backend fact"),
            "write `backends.<role>.<fact>`, as in `backends.ar.present`",
        ),
        _ => ConditionFault::new(
            format!("`{written}` names no prediction"),
            "write `predicted.<role or backend>.<fact>`, as in `predicted.ar.total_ms`; a name that is no plain word stands in \
             brackets: `predicted['gpu-1'].total_ms`",
        ),
    }
}

pub(super) fn unknown<'a>(what: &str, name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> ConditionFault {
    ConditionFault::new(format!("unknown {what} `{name}`"), nearest_help(name, known))
}
