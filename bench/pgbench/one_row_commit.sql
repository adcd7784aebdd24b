-- One row, one commit: the least that any durable engine pays for a change.
insert into bench.commits (n) values (1);
