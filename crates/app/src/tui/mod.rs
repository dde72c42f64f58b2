//! `weir watch` on a terminal: asks the admin API once a second and draws what it says.

mod detail;
mod graph;
mod model;
mod view;

use std::io::IsTerminal;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::status::{Aggregate, Status};
use ratatui::crossterm::event::{self, Event as TerminalEvent};
use serde::Deserialize;

use crate::client::{Client, ClientError, with_query};
use crate::flow_json::LiveFlow;
use model::{Event, Model, Snapshot};

/// Time between looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Longest wait for a key before new data is drawn.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Time the view has to end in order.
const END_WAIT: Duration = Duration::from_secs(1);

/// Flows asked for: more than fit a screen, so that talkers and sums mean something.
const FLOWS_MAX: &str = "1000";

/// Answers that wait to be drawn.
const QUEUE_MAX: usize = 4;

/// What to ask for, changed by the view, read by the asking side.
#[derive(Clone, Debug, Default)]
struct Question {
    filter: Option<String>,
    sort: &'static str,
}

/// Runs the view until the user leaves it.
pub(crate) fn run(client: Client, interface: Option<String>, filter: Option<String>) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        anyhow::bail!("the view needs a terminal: use --format json to get records instead");
    }
    let mut model = Model::new(interface, filter.unwrap_or_default());
    let question = Arc::new(Mutex::new(question_of(&model)));
    let runtime = crate::client::runtime()?;
    // Whoever runs nothing hears it before the screen is taken over.
    let first = runtime.block_on(look(&client, &question_of(&model)))?;
    model.update(Event::Data(Box::new(first)));
    let (sender, events) = sync_channel(QUEUE_MAX);
    // Ends with the process, or at the first answer that nobody takes.
    let asked = Arc::clone(&question);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = ask(client, asked, sender.clone()) => {}
                () = told_to_end() => {}
            }
        });
        // Whichever it was, the terminal is given back in order.
        let _ = sender.send(Event::Over);
        // Reading keys from a terminal that is gone never returns: then nobody else ends this.
        std::thread::sleep(END_WAIT);
        ratatui::restore();
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    });
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &mut model, &events, &question);
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    model: &mut Model,
    events: &Receiver<Event>,
    question: &Mutex<Question>,
) -> anyhow::Result<()> {
    while !model.is_over {
        terminal.draw(|frame| view::draw(frame, model))?;
        if event::poll(KEY_WAIT)?
            && let TerminalEvent::Key(key) = event::read()?
        {
            model.update(Event::Key(key));
        }
        for event in events.try_iter() {
            model.update(event);
        }
        *question.lock().unwrap_or_else(PoisonError::into_inner) = question_of(model);
    }
    Ok(())
}

fn question_of(model: &Model) -> Question {
    Question {
        filter: model.api_filter(),
        sort: model.sort.for_api(),
    }
}

/// Ready when the process is asked to end; without signals, never.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

async fn ask(client: Client, question: Arc<Mutex<Question>>, sender: SyncSender<Event>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let asked = question.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let event = match look(&client, &asked).await {
            Ok(snapshot) => Event::Data(Box::new(snapshot)),
            Err(error) => Event::Lost(error.to_string()),
        };
        // A view that is behind gets the next one.
        if let Err(TrySendError::Disconnected(_)) = sender.try_send(event) {
            return;
        }
    }
}

#[derive(Deserialize)]
struct FlowsBody {
    flows: Vec<LiveFlow>,
    total: u64,
}

#[derive(Deserialize)]
struct AggregatesBody {
    aggregates: Vec<Aggregate>,
}

async fn look(client: &Client, question: &Question) -> Result<Snapshot, ClientError> {
    let mut parameters = vec![("limit", FLOWS_MAX), ("sort", question.sort), ("state", "active")];
    if let Some(filter) = &question.filter {
        parameters.push(("filter", filter));
    }
    let status: Status = client.get("/api/v1/status").await?;
    let flows: FlowsBody = client.get(&with_query("/api/v1/flows", &parameters)).await?;
    let aggregates: AggregatesBody = client.get("/api/v1/aggregates").await?;
    Ok(Snapshot {
        status,
        flows: flows.flows,
        n_matching: flows.total,
        aggregates: aggregates.aggregates,
    })
}

#[cfg(test)]
mod tests;
