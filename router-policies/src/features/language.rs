//! Which language the asked text is in: by its script, and for Latin letters by frequent words. Sure rather
//! than complete: a mixed text is `unknown`. Must never look beyond the beginning of a text.

use std::sync::LazyLock;

use super::looked_up::LookedUp;
use super::words::any_word;
use crate::words_of::words;

words! {
    /// A language, by its ISO 639-1 code.
    pub enum Language {
        /// English.
        En = "en",
        /// German.
        De = "de",
        /// French.
        Fr = "fr",
        /// Spanish.
        Es = "es",
        /// Italian.
        It = "it",
        /// Portuguese.
        Pt = "pt",
        /// Dutch.
        Nl = "nl",
        /// Polish.
        Pl = "pl",
        /// Swedish.
        Sv = "sv",
        /// Turkish.
        Tr = "tr",
        /// Chinese.
        Zh = "zh",
        /// Japanese.
        Ja = "ja",
        /// Korean.
        Ko = "ko",
        /// Russian.
        Ru = "ru",
        /// Ukrainian.
        Uk = "uk",
        /// Arabic.
        Ar = "ar",
        /// Persian.
        Fa = "fa",
        /// Hebrew.
        He = "he",
        /// Greek.
        El = "el",
        /// Hindi.
        Hi = "hi",
        /// Thai.
        Th = "th",
        /// None of these, or too little text to tell.
        Unknown = "unknown",
    }
}

/// Characters looked at.
const MOST_CHARS: usize = 400;

/// Most words of a text of which one known word tells the language, if it is in one list only.
const SHORT_WORDS: usize = 8;

/// Frequent small words, and what short requests begin with. A word of several of these languages stands in each list, so
/// that it tells of none (`come` is English and Italian).
pub(super) const SMALL_WORDS: &[(Language, &str)] = &[
    (
        Language::En,
        "the and is are of to what how this that with you my please can from for it not write give me make find \
         why who does turn off set sort which when your where were would should could have has there their our \
         his about into than then some any tell show explain call play remind translate send thanks thank hello \
         need want let get today tomorrow was did come per do van no",
    ),
    (
        Language::De,
        "der die das und ist nicht ein eine ich bitte wie mit auf für von dem den zu mir warum schreibe wo wer \
         wird kann diese sind aus im er wir mich dich mein meine meinen dein deine oder aber auch noch heute \
         morgen gestern jetzt nach zum zur vom beim habe haben bist du welche welcher welches gib zeig mach \
         erkläre erzähl schick übersetze danke gibt etwas einen einem einer kein keine um gerade alle hier was \
         schreib über kannst",
    ),
    (
        Language::Fr,
        "le les est une et des du je vous que pour dans avec pas ce cette qui sur comment pourquoi quelle quel \
         mon écris ne sont au moi toi nous elle très donc où quoi quand combien quels quelles cet ces notre votre \
         ça merci bonjour explique montre donne traduis peux tout tous toute toutes hier demain ai aux mes ma il \
         mais tu un la à son",
    ),
    (
        Language::Es,
        "el los las y una es del por para con qué cómo está mi este esta escribe cuál hay más son su al lo cuando \
         un muy pero porque esto eso ese esa estos estas hoy ayer mañana ahora gracias hola dónde quién cuánto \
         cuántos cuántas cuáles dime dame pon puedes quiero necesito tengo tiene hasta desde todo todos todas mis \
         tus algo me la",
    ),
    (
        Language::It,
        "il gli che di è un una per con non sono come questo questa mi scrivi del della perché cosa nel la mio \
         mia tuo tua suo sua questi queste quello quella chi quanti quale quali anche molto più oggi domani ieri \
         adesso grazie ciao dimmi fammi dammi spiega apri metti puoi può voglio ho tutti tutte tutto nella degli \
         delle dalla dal sul sulla dove alla al ad ci ha quanto i",
    ),
    (
        Language::Pt,
        "o os uma não para com que você meu como está isso escreva são do da em por qual mais ao na um eu ele ela \
         minha meus minhas seu seus suas sua tua isto esse essa este esta estas quem onde quando quantos quantas \
         quais muito hoje amanhã ontem agora obrigado obrigada olá faça mostre traduza explique abra quero \
         preciso tenho tem há até sem pela pelo às também porque é todos todas me das quanto",
    ),
    (
        Language::Nl,
        "het een en van ik niet is dat wat hoe met voor op zijn mijn schrijf deze naar waarom kun je de jij hij \
         zij wij ons onze mij hem haar dit nog maar ook geen vandaag morgen gisteren nu daar hier waar wie \
         wanneer welke hoeveel kunt moet heb heeft hebben bij uit om aan door geef maak doe vertel stuur vertaal \
         bedankt graag er me was alle ben zet we kan",
    ),
    (
        Language::Pl,
        "nie jest i w na z się co jak do to czy dlaczego napisz proszę mój który dla są ten mnie mi cię moja moje \
         twój twoja tę tym tego tej od po przez przed bez lub albo też tylko już jeszcze bardzo dziś dzisiaj \
         jutro wczoraj teraz tutaj gdzie kto kiedy ile jaki jaka jakie która które mam masz ma mogę możesz chcę \
         dzięki dziękuję cześć pokaż wyślij włącz wyłącz otwórz wyjaśnij przetłumacz te tam podaj",
    ),
    (
        Language::Sv,
        "och är inte en ett det som på jag med för hur vad varför skriv till av min den detta han hon mig dig oss \
         mitt mina din ditt dina här där nu idag imorgon igår vem när vilken vilket vilka många mycket några alla \
         eller också bara kan ska vill har gör visa berätta förklara översätt skicka öppna tack hej snälla från \
         efter om var vi du er lite de i",
    ),
    (
        Language::Tr,
        "ve bir bu için ne nasıl değil mi ile neden yaz lütfen benim çok daha var olan biz siz onlar bana sana \
         bunu şunu onu burada nerede nereye kim kaç hangi mı mu mü gibi kadar sonra önce şimdi bugün yarın dün \
         evet hayır teşekkürler teşekkür merhaba göster söyle anlat aç kapat gönder hatırlat çevir açıkla tüm şey \
         iki misin mısın ben sen şu",
    ),
];

/// The small words, with a bit for every list they are in.
static KNOWN: LazyLock<LookedUp<u16>> = LazyLock::new(|| {
    let lists = SMALL_WORDS.iter().enumerate();
    let words = lists.flat_map(|(at, (_, list))| list.split(' ').map(move |word| (word, 1 << at)));
    LookedUp::of(words, |lists, more| *lists |= more)
});

/// See the module.
pub(super) fn of(text: &str) -> Language {
    let text = head(text);
    by_script(text).unwrap_or_else(|| by_small_words(text))
}

fn head(text: &str) -> &str {
    if text.len() <= MOST_CHARS {
        return text;
    }
    text.char_indices().nth(MOST_CHARS).map_or(text, |(end, _)| &text[..end])
}

/// The language of the script that most letters are of; `None` for Latin ones.
fn by_script(text: &str) -> Option<Language> {
    if text.is_ascii() {
        return None;
    }
    let (mut letters, mut han, mut counts) = (0_usize, 0_usize, [0_usize; 9]);
    const ORDER: [Language; 9] = [
        Language::Ja,
        Language::Ko,
        Language::Ru,
        Language::Ar,
        Language::He,
        Language::El,
        Language::Hi,
        Language::Th,
        Language::Unknown,
    ];
    let (mut ukrainian, mut persian) = (false, false);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        let at = match c {
            '\u{3040}'..='\u{30ff}' => 0,
            '\u{ac00}'..='\u{d7af}' | '\u{1100}'..='\u{11ff}' => 1,
            '\u{400}'..='\u{4ff}' => {
                ukrainian |= "іїєґІЇЄҐ".contains(c);
                2
            }
            '\u{600}'..='\u{6ff}' => {
                persian |= "گچپژ".contains(c);
                3
            }
            '\u{590}'..='\u{5ff}' => 4,
            '\u{370}'..='\u{3ff}' => 5,
            '\u{900}'..='\u{97f}' => 6,
            '\u{e00}'..='\u{e7f}' => 7,
            '\u{3400}'..='\u{9fff}' => {
                han += 1;
                continue;
            }
            _ => 8,
        };
        counts[at] += 1;
    }
    // A character of these says as much as a word: quoted names and code in Latin letters do not outweigh them.
    if han * 4 >= letters && han > 0 && counts[0] == 0 {
        return Some(Language::Zh);
    }
    if counts[0] > 0 && (counts[0] + han) * 4 >= letters {
        return Some(Language::Ja);
    }
    let (at, most) = counts[..8].iter().enumerate().max_by_key(|(_, count)| **count)?;
    if *most == 0 || most * 2 < letters {
        return None;
    }
    Some(match ORDER[at] {
        Language::Ru if ukrainian => Language::Uk,
        Language::Ar if persian => Language::Fa,
        language => language,
    })
}

pub(super) fn by_small_words(text: &str) -> Language {
    let (mut words, mut counts) = (0, [0_u32; SMALL_WORDS.len()]);
    let count = |word: &str| {
        words += 1;
        let mut lists = KNOWN.get(word);
        while let Some(seen) = counts.get_mut(lists.trailing_zeros() as usize) {
            *seen += 1;
            lists &= lists - 1;
        }
        false
    };
    // Each of them is asked for.
    let _none = any_word(text, char::is_alphabetic, count);
    let best = (0..counts.len()).max_by_key(|at| counts[*at]).unwrap_or(0);
    let runner_up = (0..counts.len()).filter(|at| *at != best).map(|at| counts[at]).max().unwrap_or(0);
    match counts[best] {
        most if most >= 2 && most > runner_up => SMALL_WORDS[best].0,
        1 if runner_up == 0 && is_short_sentence(text, words) => SMALL_WORDS[best].0,
        _ => Language::Unknown,
    }
}

/// Whether a text is a few words with a sentence's marks: commands and code have others.
pub(super) fn is_short_sentence(text: &str, words: usize) -> bool {
    let may_stand = |c: char| c.is_alphabetic() || c.is_whitespace() || ",.?!'’:;¿¡…\"«»-".contains(c);
    (2..=SHORT_WORDS).contains(&words) && text.chars().all(may_stand) && !text.contains(" -")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_told_apart_and_scraps_are_not() {
        for (text, language) in [
            ("turn off the lights in the kitchen", Language::En),
            ("Schreibe mir bitte eine Antwort, die nicht so lang ist", Language::De),
            ("Quelle est la capitale de la France et pourquoi", Language::Fr),
            ("¿Cómo está el tiempo en la ciudad y por qué?", Language::Es),
            ("Scrivi una poesia che non sia troppo lunga per il mio amico", Language::It),
            ("Escreva uma carta para o meu chefe, não muito longa", Language::Pt),
            ("Schrijf een brief voor mijn oma, het is niet moeilijk", Language::Nl),
            ("Dlaczego niebo jest niebieskie, jak to się dzieje", Language::Pl),
            ("Skriv ett brev till min mormor och det ska inte vara långt", Language::Sv),
            ("Bu metin için bir başlık yaz, çok uzun olmasın", Language::Tr),
            ("把下面的句子翻译成英文：hello world", Language::Zh),
            ("この文章を要約してください", Language::Ja),
            ("부엌 불을 꺼 주세요", Language::Ko),
            ("Почему небо голубое?", Language::Ru),
            ("Чому небо блакитне і високе?", Language::Uk),
            ("ما هي عاصمة فرنسا؟", Language::Ar),
            ("پایتخت فرانسه چیست؟ گربه", Language::Fa),
            ("hi", Language::Unknown),
            ("", Language::Unknown),
            ("fn main() { println!(); }", Language::Unknown),
        ] {
            assert_eq!(of(text), language, "{text}");
        }
    }
}
