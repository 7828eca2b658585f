//! Why a policy decides as it does: every rule with what each of its parts came to, and the plan. Must never run
//! anything, and shows no text of the prompt: features have none.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::Policy;
use super::condition::{self, Term};
use super::decide::pinned;
use super::variables::Variable;
use crate::plan::RoutePlan;
use crate::question::{Predicted, Question};

/// A decision, taken apart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Which policy.
    pub policy: String,
    /// What is expected of backends.
    pub predicted: Vec<Predicted>,
    /// Every rule, in order. Those after the deciding one are evaluated too.
    pub rules: Vec<RuleOutcome>,
    /// What would be done.
    pub plan: RoutePlan,
}

/// One rule with what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleOutcome {
    /// Its name.
    pub rule: String,
    /// Its condition as written; `None` where it applies to every request.
    pub when: Option<String>,
    /// Whether it holds; `None` where it could not be evaluated, which is no match.
    pub holds: Option<bool>,
    /// Whether it is the one that decides.
    pub decides: bool,
    /// The parts that must all hold.
    pub because: Vec<Term>,
    /// The values of everything the condition names.
    pub values: BTreeMap<String, Json>,
    /// Why it could not be evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Policy {
    /// Takes the decision about `question` apart.
    pub fn explain(&self, question: &Question<'_>) -> Explanation {
        let plan = self.decide(question);
        let context = condition::context(&self.named, question);
        let by_rules = pinned(question).is_none();
        let rules = self.rules.iter().map(|rule| {
            let decides = by_rules && rule.name == plan.rule;
            let Some(condition) = &rule.condition else {
                return RuleOutcome {
                    rule: rule.name.clone(),
                    when: None,
                    holds: Some(true),
                    decides,
                    because: Vec::new(),
                    values: BTreeMap::new(),
                    trouble: None,
                };
            };
            let holds = condition.holds(&context);
            RuleOutcome {
                rule: rule.name.clone(),
                when: rule.when.clone(),
                holds: holds.as_ref().ok().copied(),
                decides,
                because: condition.terms(&context),
                values: condition.named.iter().map(|name| (name.to_string(), value(name, question))).collect(),
                trouble: holds.err(),
            }
        });
        Explanation {
            policy: self.origin.clone(),
            predicted: question.predicted.to_vec(),
            rules: rules.collect(),
            plan,
        }
    }
}

/// A name's value as JSON; a time that nobody can tell is null.
fn value(variable: &Variable, question: &Question<'_>) -> Json {
    match variable.value(question) {
        cel::Value::Bool(value) => json!(value),
        cel::Value::Int(value) => json!(value),
        cel::Value::Float(value) if value.is_finite() => json!(value),
        cel::Value::String(value) => json!(value.as_str()),
        cel::Value::List(items) => {
            let text = |item: &cel::Value| match item {
                cel::Value::String(text) => json!(text.as_str()),
                _ => Json::Null,
            };
            Json::Array(items.iter().map(text).collect())
        }
        _ => Json::Null,
    }
}
