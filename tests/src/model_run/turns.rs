//! What operators and senders of signals do.

use std::rc::Rc;

use uuid::Uuid;

use super::Run;
use crate::database::TestDatabase;
use crate::model::{Answer, Payload, SIGNALS, signal_name};

impl Run {
    /// A task, by its number and its key; rather one that has not ended.
    fn any_task(&mut self) -> Option<(usize, Uuid)> {
        let tasks = self.model.tasks.iter().enumerate();
        let live: Vec<usize> = tasks
            .filter(|(_, task)| !task.is_terminal())
            .map(|(number, _)| number)
            .collect();
        let live = self.chance.one_of(&live);
        let any = self.chance.below(self.task_uuids.len().max(1));
        let number = live.filter(|_| !self.chance.once_in(3)).unwrap_or(any);
        Some((number, *self.task_uuids.get(number)?))
    }

    /// Does something, to both.
    pub async fn turn(&mut self, database: &TestDatabase) -> anyhow::Result<()> {
        match self.chance.below(30) {
            0 | 1 => self.create().await,
            2 | 3 => {
                let milliseconds = [100, 1_500, 8_000, 70_000][self.chance.below(4)];
                self.pass(milliseconds).await
            }
            4..=7 => self.claim().await,
            8 => self.maintain().await,
            9 => self.cancel().await,
            10 => self.rerun().await,
            11 | 12 => self.repair().await,
            13 => self.pause().await,
            14 | 15 => self.send_signal().await,
            16..=18 => self.run_sql_step().await,
            19 if self.chance.once_in(4) => self.lose_runner(database).await,
            _ => self.finish().await,
        }
    }

    async fn cancel(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        if !self.chance.once_in(2) {
            return Ok(());
        }
        let compensate = self.chance.once_in(2);
        let answer = self.model.cancel(number, compensate);
        let call = format!("select tasker.cancel_task('{task_uuid}', null, {compensate})");
        self.call(call, answer).await
    }

    async fn pause(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        if self.chance.once_in(3) {
            let answer = self.model.pause(number);
            let call = format!("select tasker.pause_task('{task_uuid}')");
            return self.call(call, answer).await;
        }
        self.model.resume(number);
        let call = format!("select tasker.resume_task('{task_uuid}')");
        self.call(call, Answer::Done).await
    }

    async fn rerun(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        let template = Rc::clone(&self.model.tasks[number].template);
        let from = (!self.chance.once_in(3)).then(|| self.chance.below(template.steps.len()));
        let with_descendants = self.chance.once_in(2);
        let answer = self.model.rerun(number, from, with_descendants);
        let name = from.map_or("null".to_owned(), |from| {
            format!("'{}'", template.steps[from].name)
        });
        let call = format!("select tasker.rerun_task('{task_uuid}', {name}, {with_descendants})");
        self.call(call, answer).await
    }

    async fn repair(&mut self) -> anyhow::Result<()> {
        let Some((number, _)) = self.any_task() else {
            return Ok(());
        };
        let steps = &self.model.tasks[number].steps;
        let all: Vec<usize> = steps.keys().copied().collect();
        if all.is_empty() {
            return Ok(());
        }
        let failed: Vec<usize> = steps
            .iter()
            .filter(|(_, step)| ["error", "cancelled"].contains(&step.state))
            .map(|(&position, _)| position)
            .collect();
        let any = all[self.chance.below(all.len())];
        let failed = self.chance.one_of(&failed);
        let position = failed.filter(|_| !self.chance.once_in(4)).unwrap_or(any);
        let place = (number, position);
        let key = self.key(place);
        let (call, answer) = match self.chance.below(3) {
            0 => (
                format!("select tasker.reset_step('{key}')"),
                self.model.reset(place),
            ),
            1 => (
                format!("select tasker.resolve_step('{key}')"),
                self.model
                    .settle_by_hand(place, "resolved_manually", Payload::default()),
            ),
            _ => {
                let (result, payload) = self.result(place, true);
                (
                    format!("select tasker.complete_step_manually('{key}', '{result}')"),
                    self.model.settle_by_hand(place, "complete", payload),
                )
            }
        };
        self.call(call, answer).await
    }

    async fn send_signal(&mut self) -> anyhow::Result<()> {
        let Some((number, task_uuid)) = self.any_task() else {
            return Ok(());
        };
        let is_waited_for = |&name: &usize| self.model.tasks[number].template.waits_for(name);
        let names: Vec<usize> = (0..SIGNALS).filter(is_waited_for).collect();
        let name = match self.chance.one_of(&names) {
            Some(name) => name,
            None if self.chance.once_in(8) => SIGNALS,
            None => return Ok(()),
        };
        let (mut payload, read) = self.fields(false);
        let is_good = !self.chance.once_in(10);
        if is_good {
            payload["by"] = "somebody".into();
        }
        let (answer, is_first) = self.model.signal(number, name, is_good.then_some(read));
        let call = format!(
            "do $$ begin assert tasker.send_signal('{task_uuid}', '{}', '{payload}') = {is_first}; end $$",
            signal_name(name)
        );
        self.call(call, answer).await
    }
}
