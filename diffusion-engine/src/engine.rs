//! The handle callers hold: loads a checkpoint, checks requests, starts answers. What can be refused is refused here,
//! at once, before anything waits. Must never block on the engine's thread.

mod warm;

use std::collections::VecDeque;
use std::sync::Arc;

use weir_kernels::PANEL;
use weir_kernels::packed::Team;
use weir_protocol::{ChatRequest, EngineError};

use crate::cache::{Pool, Sharing};
use crate::checkpoint::open::Checkpoint;
use crate::checkpoint::template::{ChatTemplate, refused};
use crate::checkpoint::tokenizer::TextTokenizer;
use crate::constrain::constraint::Constraint;
use crate::constrain::grammar;
use crate::constrain::vocabulary::Vocabulary;
use crate::decode::levenshtein::ControlTokens;
use crate::decode::published::{self, ChosenBy};
use crate::decode::rules::LogitRules;
use crate::decode::settings::DecodeSettings;
use crate::error::LoadError;
use crate::generation::Generation;
use crate::options::{
    DecoderKind, DiffusionOptions, EngineKind, EngineLoad, EngineOptions, ModelFiles, ModelInfo, SharePrefixes,
};
use crate::processor::Processor;
use crate::schedule::answer::Answer;
use crate::schedule::lane::{DiffusionJob, Job};
use crate::schedule::queue::Queue;
use crate::schedule::scorer::Scorer;
use crate::schedule::watch::Wish;
use crate::schedule::{Forward, Limits, Loaded, runner};

/// A loaded model with its own thread. Cheap to clone. The thread ends when the last clone is gone and the answers
/// that were started have ended.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    info: ModelInfo,
    tokenizer: Arc<TextTokenizer>,
    template: ChatTemplate,
    /// What the operator said about decoding, and what came of it.
    defaults: DiffusionOptions,
    decoding: DecodeSettings,
    /// The only block length a model with block routing (LLaDA2.2) takes.
    fixed_block_length: Option<usize>,
    max_tokens_default: u32,
    /// Present for a model that can delete and insert.
    control: Option<ControlTokens>,
    share_prefixes: SharePrefixes,
    queue: Arc<Queue>,
    /// For answers whose form is demanded, or why this model cannot have such.
    vocabulary: Result<Arc<Vocabulary>, String>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("info", &self.inner.info).finish_non_exhaustive()
    }
}

impl Engine {
    /// Reads and checks every file, then starts the engine's thread. Takes as long as reading the weights does.
    ///
    /// # Errors
    /// Names the file and the tensor or field that is wrong.
    pub fn load(files: ModelFiles, options: EngineOptions) -> Result<Engine, LoadError> {
        let names = match &files {
            ModelFiles::Dir(place) => published::names(place),
            ModelFiles::Embedded { .. } => Vec::new(),
        };
        let checkpoint = Checkpoint::open(files)?;
        let config = checkpoint.config()?;
        let ids = config.delete_token.zip(config.split_token);
        let control = ids.map(|(delete, split)| ControlTokens { delete, split });
        let (decoding, chosen_by) = default_decoding(&options.defaults, &names, control)?;
        config.check_block_length(decoding.block_length)?;
        let tokenizer = Arc::new(checkpoint.tokenizer(&config)?);
        let template = checkpoint.template(&tokenizer)?;
        let (model, pool) = Processor::load(config, checkpoint.weights()?, &options)?;
        let config = model.config();
        let block_length = match config.kind {
            EngineKind::Diffusion => decoding.block_length,
            EngineKind::Autoregressive => 1,
        };
        let is_diffusion = config.kind == EngineKind::Diffusion;
        let (parameters, weights_bytes) = model.size();
        let info = ModelInfo {
            kind: config.kind,
            architecture: config.architecture.clone(),
            parameters,
            context: config.context.min(pool.total().saturating_mul(PANEL)) as u32,
            vocab: config.vocab as u32,
            weights_bytes,
            block_length: block_length as u32,
            decoding: is_diffusion.then(|| (decoding.clone(), chosen_by)),
            kv_pages: pool.total(),
            kv_page_bytes: model.kv_shape().page_bytes(options.kv_type),
            kernels: model.name(),
        };
        let fixed_block_length = config.routes_by_block().then_some(decoding.block_length);
        let loaded = Loaded { model, tokenizer: tokenizer.clone() };
        let queue = run_thread(loaded, pool, &options)?;
        let vocabulary = Vocabulary::new(tokenizer.clone(), info.vocab as usize).map(Arc::new);
        let EngineOptions { defaults, max_tokens_default, share_prefixes, .. } = options;
        Ok(Engine {
            inner: Arc::new(Inner {
                info,
                tokenizer,
                template,
                defaults,
                decoding,
                fixed_block_length,
                max_tokens_default,
                control,
                share_prefixes,
                queue,
                vocabulary,
            }),
        })
    }

    /// The model this engine holds.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// Tokens the rendered prompt of `request` has, generation prompt included.
    ///
    /// # Errors
    /// `InvalidRequest` or `Unsupported` when the messages cannot be rendered.
    pub fn count_prompt_tokens(&self, request: &ChatRequest) -> Result<u32, EngineError> {
        let prompt = self.inner.template.tokens(request, &self.inner.tokenizer)?;
        u32::try_from(prompt.len()).map_err(|_| self.too_long(prompt.len()))
    }

    /// Renders, tokenizes and checks the request and queues it; the answer comes as a stream. Tokenizing runs on the
    /// caller's thread: about a millisecond for 50 KB.
    ///
    /// # Errors
    /// `InvalidRequest`, `Unsupported`, `ContextTooLong` and `Overloaded` come back here, before any event.
    pub fn generate(&self, request: &ChatRequest) -> Result<Generation, EngineError> {
        self.start(request, Wish { drafts: request.diffusion.drafts, steps: false })
    }

    /// [`Engine::generate`] with a [`crate::GenerationEvent::Step`] for each denoise step, for who sits at the machine:
    /// no request can ask for it. An autoregressive model has none.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn generate_traced(&self, request: &ChatRequest) -> Result<Generation, EngineError> {
        self.start(request, Wish { drafts: request.diffusion.drafts, steps: true })
    }

    fn start(&self, request: &ChatRequest, wish: Wish) -> Result<Generation, EngineError> {
        if let Some(field) = request.unsupported.first() {
            let message = "the built-in engines cannot honour it".to_owned();
            return Err(EngineError::Unsupported { field: (*field).to_owned(), message });
        }
        let settings = self.decoding_of(request)?;
        let prompt = self.inner.template.tokens(request, &self.inner.tokenizer)?;
        if prompt.is_empty() {
            return Err(refused("the model's chat template makes an empty prompt of them".into()));
        }
        let limit = self.answer_limit(prompt.len(), request.max_tokens)?;
        let tokenizer = &self.inner.tokenizer;
        let scorer = self.scorer(request, &settings, &prompt, limit)?;
        let constraint = self.constraint(request)?;
        let start_from = self.start_from(request, &settings, &scorer.rules, limit)?;
        let diffusion = self.diffusion_job(settings, wish, start_from);
        let (events, generation) = Generation::channel(prompt.len() as u32);
        let answer = Answer::new(events, &request.sampling.stop, tokenizer.ends.clone(), limit);
        let context = self.inner.info.context as usize;
        let tenant = request.tenant.clone().unwrap_or_default();
        let sharing = self.sharing(&tenant, diffusion.as_ref());
        let background = request.background;
        let job = Job { prompt, answer, scorer, diffusion, constraint, context, tenant, background, sharing };
        self.inner.queue.push(job)?;
        // While the engine's thread takes it up: the kernels' threads take as long to be there.
        Team::shared().wake();
        Ok(generation)
    }

    /// What the request demands of the answer's form.
    fn constraint(&self, request: &ChatRequest) -> Result<Option<Constraint>, EngineError> {
        let vocabulary = match &self.inner.vocabulary {
            Ok(vocabulary) => vocabulary,
            Err(_) if !grammar::demands_form(request) => return Ok(None),
            Err(reason) => {
                let message = format!("this model cannot be held to a form: {reason}");
                return Err(EngineError::Unsupported { field: "response_format".into(), message });
            }
        };
        let form = grammar::form(request, vocabulary)?;
        Ok(form.map(|form| Constraint::new(form, vocabulary.clone(), self.inner.tokenizer.ends.clone())))
    }

    /// How a request's blocks will be decoded: its settings over the engine's. Means nothing to an autoregressive model.
    ///
    /// # Errors
    /// As [`Engine::generate`].
    pub fn decoding_of(&self, request: &ChatRequest) -> Result<DecodeSettings, EngineError> {
        let (asked, own) = (&request.diffusion, &self.inner.decoding);
        let settings = match asked.decoder.filter(|decoder| *decoder != own.decoder) {
            // Thresholds that nobody named are this decoder's, not the other one's.
            Some(decoder) => published::settings(decoder)
                .over(&DiffusionOptions { decoder: None, ..self.inner.defaults.clone() })
                .and_then(|settings| settings.over(asked)),
            None => own.over(asked),
        };
        let settings =
            settings.map_err(|wrong| EngineError::invalid(format!("diffusion.{}", wrong.field), wrong.message))?;
        if self.inner.info.kind == EngineKind::Autoregressive {
            return Ok(settings);
        }
        // The caller's own mistake: another engine's answer would not be what was asked for.
        has_decoder(settings.decoder, self.inner.control)
            .map_err(|message| EngineError::invalid("diffusion.decoder", message))?;
        if self.inner.fixed_block_length.is_some_and(|fixed| fixed != settings.block_length) {
            return Err(EngineError::invalid("diffusion.block_length", "this model routes experts by its own blocks"));
        }
        Ok(settings)
    }

    /// The answer to begin from, its end token included. What may not stand where it does is left to the model.
    fn start_from(
        &self,
        request: &ChatRequest,
        settings: &DecodeSettings,
        rules: &LogitRules,
        limit: usize,
    ) -> Result<VecDeque<u32>, EngineError> {
        let Some(text) = &request.diffusion.start_from else { return Ok(VecDeque::new()) };
        let wrong = |message: String| Err(EngineError::invalid("diffusion.start_from", message));
        if !settings.decoder.edits() {
            return wrong("needs a decoder that edits: say `decoder` joint, multi_block or levenshtein".into());
        }
        let mut tokens = self.inner.tokenizer.encode_plain(text)?;
        tokens.extend(self.inner.tokenizer.ends.first());
        if tokens.len() > limit {
            return wrong(format!("has {} tokens, the answer's limit is {limit}", tokens.len()));
        }
        if let Some(mask) = self.inner.tokenizer.mask {
            for (at, token) in tokens.iter_mut().enumerate() {
                *token = if rules.forbids(*token, at) { mask } else { *token };
            }
        }
        Ok(tokens.into())
    }

    /// How the request reads logits, for an answer of at most `limit` tokens.
    fn scorer(
        &self,
        request: &ChatRequest,
        settings: &DecodeSettings,
        prompt: &[u32],
        limit: usize,
    ) -> Result<Scorer, EngineError> {
        let sampling = &request.sampling;
        if sampling.min_tokens.is_some_and(|least| least as usize > limit) {
            let message = format!("must not be more than the answer's limit of {limit} tokens");
            return Err(EngineError::invalid("min_tokens", message));
        }
        let mut never: Vec<u32> = self.inner.tokenizer.mask.into_iter().collect();
        if let Some(control) = self.inner.control
            && settings.decoder != DecoderKind::Levenshtein
        {
            never.extend([control.delete, control.split]);
        }
        let rules = LogitRules::new(sampling, prompt, &self.inner.tokenizer.ends, never, self.inner.info.vocab)?;
        Scorer::new(sampling, request.diffusion.seed, rules)
    }

    /// What a diffusion model needs besides; `None` for another.
    fn diffusion_job(&self, settings: DecodeSettings, wish: Wish, start_from: VecDeque<u32>) -> Option<DiffusionJob> {
        let mask = self.inner.tokenizer.mask.filter(|_| self.inner.info.kind == EngineKind::Diffusion)?;
        Some(DiffusionJob { settings, mask, control: self.inner.control, wish, start_from })
    }

    /// With whom a request shares K/V. A page must be whole blocks: where it is not, with nobody.
    fn sharing(&self, tenant: &Arc<str>, diffusion: Option<&DiffusionJob>) -> Option<Sharing> {
        let salt = match self.inner.share_prefixes {
            SharePrefixes::Tenant => Some(Arc::clone(tenant)),
            SharePrefixes::All => None,
            SharePrefixes::Off => return None,
        };
        let block = diffusion.map_or(1, |job| job.settings.block_length);
        PANEL.is_multiple_of(block).then_some(Sharing { salt, block })
    }

    /// What the engine is busy with now.
    pub fn load_now(&self) -> EngineLoad {
        self.inner.queue.load()
    }

    /// Most tokens the answer may have. A caller's limit is an upper bound (agents send the largest they know of), so one
    /// beyond the window takes what is left, as the default does; where less is left than an answer gets by default, the
    /// request is refused, so that a backend with more room may take it.
    fn answer_limit(&self, prompt: usize, asked: Option<u32>) -> Result<usize, EngineError> {
        let room = (self.inner.info.context as usize).saturating_sub(prompt);
        let by_default = self.inner.max_tokens_default.max(1) as usize;
        match asked {
            Some(0) => Err(EngineError::invalid("max_tokens", "must be at least 1")),
            _ if room == 0 => Err(self.too_long(prompt + 1)),
            Some(asked) if room < by_default.min(asked as usize) => Err(self.too_long(prompt + asked as usize)),
            Some(asked) => Ok(room.min(asked as usize)),
            None => Ok(room.min(by_default)),
        }
    }

    fn too_long(&self, got: usize) -> EngineError {
        EngineError::ContextTooLong { limit: u64::from(self.inner.info.context), got: got as u64 }
    }
}

/// Starts the thread that runs `model`.
fn run_thread(model: impl Forward, pool: Arc<Pool>, options: &EngineOptions) -> Result<Arc<Queue>, LoadError> {
    let queue = Arc::new(Queue::new(options.max_running, options.queue_limit));
    let limits = Limits { pool, step_tokens: options.step_tokens };
    let shared = queue.clone();
    std::thread::Builder::new()
        .name("weir-engine".into())
        .spawn(move || runner::run(&shared, &model, limits))
        .map_err(|cause| LoadError::Thread { cause })?;
    Ok(queue)
}

/// The operator's word over what the model was published with.
fn default_decoding(
    defaults: &DiffusionOptions,
    names: &[String],
    control: Option<ControlTokens>,
) -> Result<(DecodeSettings, ChosenBy), LoadError> {
    let wrong = |field: &str, message| LoadError::Config { file: "options".into(), field: field.to_owned(), message };
    let (decoder, by) = match defaults.decoder {
        Some(decoder) => (decoder, ChosenBy::Config),
        None => published::decoder(names.iter().map(String::as_str), control.is_some()),
    };
    has_decoder(decoder, control).map_err(|message| wrong("decoder", message))?;
    let settings = published::settings(decoder).over(defaults).map_err(|at| wrong(at.field, at.message))?;
    Ok((settings, by))
}

/// Why the model cannot have this decoder.
fn has_decoder(decoder: DecoderKind, control: Option<ControlTokens>) -> Result<(), String> {
    match decoder {
        DecoderKind::Levenshtein if control.is_none() => {
            Err("`levenshtein` needs a model with delete and split tokens (LLaDA2.2); this one has none".into())
        }
        _ => Ok(()),
    }
}
