//! What a request costs, and its tenant, where there is one: an estimate while it runs, the truth at its end. A guard:
//! whatever becomes of the request, it is settled exactly once, when the charge is dropped.

use std::sync::Arc;

use weir_protocol::{ChatRequest, Event, Usage};

use super::limits::Taken;
use super::{Price, Tenant, Tenants, Untold};

/// Bytes of text for a token, to estimate with.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens an answer is expected to have at most: callers ask for room they rarely use.
const ANSWER_TOKENS: u64 = 512;

/// See the module.
pub struct Charge {
    tenants: Arc<Tenants>,
    /// `None`: it is only counted.
    account: Option<AtAccount>,
    prompt_tokens: u64,
    answer_bytes: u64,
    usage: Option<Usage>,
    backend: Option<String>,
    has_failed: bool,
    /// Tokens and money of backends that another took over from.
    before: (u64, u64),
}

/// Who pays.
pub(super) struct AtAccount {
    pub(super) tenant: Arc<Tenant>,
    /// As it was let in.
    pub(super) taken: Taken,
    /// Where Redis keeps the account.
    pub(super) untold: Option<Untold>,
}

impl Charge {
    pub(super) fn new(tenants: Arc<Tenants>, account: Option<AtAccount>, prompt_tokens: u64) -> Self {
        let (answer_bytes, usage, backend, has_failed) = (0, None, None, false);
        let before = (0, 0);
        Charge { tenants, account, prompt_tokens, answer_bytes, usage, backend, has_failed, before }
    }

    /// Whose it is.
    pub(crate) fn tenant_name(&self) -> Option<Arc<str>> {
        self.account.as_ref().map(|account| Arc::clone(&account.tenant.name))
    }

    /// Money so far, in millionths; `None` where nothing has a price.
    pub(crate) fn money(&self) -> Option<u64> {
        self.tenants.has_prices().then(|| self.total().1)
    }

    /// An event of `backend` goes to the caller.
    pub(crate) fn saw(&mut self, event: &Event, backend: &str) {
        if self.backend.is_none() {
            self.backend = Some(backend.to_owned());
        }
        match event {
            Event::TextDelta(text)
            | Event::RefusalDelta(text)
            | Event::ReasoningDelta(text)
            | Event::ToolCallDelta { arguments: text, .. } => {
                self.answer_bytes += text.len() as u64;
            }
            Event::Usage(usage) => self.usage = Some(usage.clone()),
            Event::Continued { backend } => {
                self.before = self.total();
                (self.usage, self.backend) = (None, Some(backend.clone()));
                // It reads on from what was said, and says the rest.
                self.prompt_tokens += self.answer_bytes.div_ceil(BYTES_PER_TOKEN);
                self.answer_bytes = 0;
            }
            _ => {}
        }
    }

    /// An attempt at `backend` took this, though what it brought is not the answer.
    pub(crate) fn spent(&mut self, backend: &str, usage: &Usage) {
        self.before = self.with(Some(backend), self.counted(usage));
    }

    /// Tokens and money so far.
    fn total(&self) -> (u64, u64) {
        self.with(self.backend.as_deref(), self.tokens())
    }

    /// Tokens and money of others, and those that `backend` took.
    fn with(&self, backend: Option<&str>, (input, output): (u64, u64)) -> (u64, u64) {
        let price = backend.and_then(|backend| self.tenants.prices.get(backend));
        let tokens = self.before.0.saturating_add(input).saturating_add(output);
        (tokens, self.before.1.saturating_add(money(price, input, output)))
    }

    /// What a backend counted, and an estimate of the prompt where it did not.
    fn counted(&self, usage: &Usage) -> (u64, u64) {
        (usage.prompt().unwrap_or(self.prompt_tokens), usage.completion_tokens)
    }

    /// The request ended in an error.
    pub(crate) fn failed(&mut self) {
        self.has_failed = true;
    }

    /// Tokens in and out. What the backend did not count is estimated; what brought nothing by our fault is free.
    fn tokens(&self) -> (u64, u64) {
        match &self.usage {
            Some(usage) => self.counted(usage),
            None if self.has_failed && self.answer_bytes == 0 => (0, 0),
            None => (self.prompt_tokens, self.answer_bytes.div_ceil(BYTES_PER_TOKEN)),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Some(AtAccount { tenant, taken, untold }) = self.account.take() else { return };
        let (tokens, money) = self.total();
        Arc::clone(&self.tenants).settle(tenant, Taken { tokens, money, ..taken }, untold);
    }
}

/// In millionths, rounded up: many small answers must not be free.
pub(super) fn money(price: Option<&Price>, input: u64, output: u64) -> u64 {
    let Some(price) = price else { return 0 };
    // A price is for a million tokens, so its product with tokens is in millionths already. A saturated cast is fine.
    (price.input * input as f64 + price.output * output as f64).ceil() as u64
}

/// Tokens of the prompt, by estimate.
pub(super) fn prompt_tokens(request: &ChatRequest) -> u64 {
    let texts = request.messages.iter().flat_map(|message| &message.content).filter_map(|part| part.as_text());
    let texts: usize = texts.map(str::len).sum();
    let calls = request.messages.iter().flat_map(|message| &message.tool_calls);
    let calls: usize = calls.map(|call| call.name.len() + call.arguments.len()).sum();
    let described = |tool: &weir_protocol::Tool| tool.description.as_ref().map_or(0, String::len);
    let tools = request.tools.iter();
    let tools: usize = tools.map(|tool| tool.name.len() + described(tool) + tool.parameters.to_string().len()).sum();
    ((texts + calls + tools) as u64).div_ceil(BYTES_PER_TOKEN)
}

/// Tokens of the answer, by estimate.
pub(super) fn answer_tokens(request: &ChatRequest) -> u64 {
    request.max_tokens.map_or(ANSWER_TOKENS, |most| u64::from(most).min(ANSWER_TOKENS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_protocol::{Message, Role};

    #[test]
    fn money_is_counted_in_millionths_and_rounded_up() {
        let price = Price { input: 0.15, output: 0.6 };
        assert_eq!(money(Some(&price), 1_000_000, 0), 150_000);
        assert_eq!(money(Some(&price), 1000, 500), 450);
        assert_eq!(money(Some(&price), 1, 0), 1);
        assert_eq!((money(None, 1000, 1000), money(Some(&price), 0, 0)), (0, 0));
    }

    #[test]
    fn estimates_count_text_and_the_room_asked_for() {
        let mut request =
            ChatRequest { messages: vec![Message::text(Role::User, "x".repeat(400))], ..ChatRequest::default() };
        assert_eq!((prompt_tokens(&request), answer_tokens(&request)), (100, 512));
        request.max_tokens = Some(16);
        assert_eq!(answer_tokens(&request), 16);
        request.max_tokens = Some(1_000_000);
        assert_eq!(answer_tokens(&request), 512);
    }
}
