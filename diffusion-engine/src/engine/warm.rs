//! Prompt beginnings that an operator knows of, read before anybody asks. Takes the way of every request. Must never
//! make what a tenant asked visible to others: it is for what the operator's own config says.

use std::collections::VecDeque;
use std::sync::Arc;

use weir_kernels::PANEL;
use weir_protocol::{ChatRequest, EngineError, Message, Role};

use super::Engine;
use crate::cache::Sharing;
use crate::generation::{Generation, GenerationEvent};
use crate::schedule::answer::Answer;
use crate::schedule::lane::Job;
use crate::schedule::watch::Wish;

impl Engine {
    /// Reads what every conversation that begins like `request` begins with, so that the next ones find it in the
    /// cache, whoever asks: system text and tools, up to where the next user's words would stand. Blocks until it is
    /// read; gives the number of tokens kept, which is 0 where nothing is shared or it is shorter than a page.
    ///
    /// # Errors
    /// As for [`Engine::generate`].
    pub fn warm(&self, request: &ChatRequest) -> Result<u32, EngineError> {
        let inner = &*self.inner;
        let with = |text: &str| {
            let mut request = request.clone();
            request.messages.push(Message::text(Role::User, text));
            inner.template.tokens(&request, &inner.tokenizer)
        };
        let (mut prompt, other) = (with("a")?, with("b")?);
        let common = prompt.iter().zip(&other).take_while(|(a, b)| a == b).count();
        prompt.truncate(common / PANEL * PANEL);
        let plain = ChatRequest::default();
        let settings = self.decoding_of(&plain)?;
        let (kept, limit) = (prompt.len(), self.answer_limit(prompt.len(), Some(1))?);
        let scorer = self.scorer(&plain, &settings, &prompt, limit)?;
        let diffusion = self.diffusion_job(settings, Wish::default(), VecDeque::new());
        let tenant: Arc<str> = Arc::default();
        let Some(Sharing { block, .. }) = self.sharing(&tenant, diffusion.as_ref()).filter(|_| kept > 0) else {
            return Ok(0);
        };
        let (events, mut generation) = Generation::channel(kept as u32);
        let answer = Answer::new(events, &[], inner.tokenizer.ends.clone(), limit);
        let (context, sharing) = (inner.info.context as usize, Some(Sharing { salt: None, block }));
        inner.queue.push(Job {
            prompt,
            answer,
            scorer,
            diffusion,
            constraint: None,
            context,
            tenant,
            background: true,
            sharing,
        })?;
        while let Some(event) = generation.next_blocking() {
            if let GenerationEvent::Failed(error) = event {
                return Err(error);
            }
        }
        Ok(kept as u32)
    }
}
