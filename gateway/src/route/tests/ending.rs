//! The end of the process while an answer is still looked for.

use super::*;

async fn stopped_while(steps: Vec<Step>) -> (Arc<Metrics>, EngineError) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let settings = AttemptSettings { retries: 3, retry_max: Duration::from_secs(60), ..AttemptSettings::default() };
    let (dice, class, ending, request) = (Dice::new(1), Class::new("rule", 0), Ending::new(), request());
    let given =
        Given { request: &request, class, settings: &settings, dice: &dice, lesson: &|_| None, ended: ending.ended() };
    let search = Search::new(steps, report(), Flight::start(Record::counted_only(&metrics), "auto", None), given);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        ending.now();
    };
    let (result, ()) = tokio::join!(search.run(), stop);
    (metrics, result.err().expect("no answer").error)
}

#[tokio::test(start_paused = true)]
async fn who_is_still_waiting_is_told_and_does_not_count_as_having_left() {
    let slow = || backend(vec![Line::Wait(90), text("late"), END]);
    let overloaded = || refusing(EngineError::Overloaded { limit: 1, retry_after: Some(Duration::from_secs(5)) });
    for (steps, what) in [(vec![step("a", slow())], "an attempt"), (vec![step("a", overloaded())], "a retry")] {
        let (metrics, error) = stopped_while(steps).await;
        assert_eq!(error, super::super::ending::stopping(), "{what}");
        counted(&metrics, r#"weir_requests_total{backend="a",outcome="stream_cut",route="auto"} 1"#);
    }
}
