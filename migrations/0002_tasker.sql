-- Tasker itself: tables, functions, roles and queues come with the extension, in the schema tasker.
-- What doesn't live here: anything the extension owns. A later release adds a migration with `alter extension tasker update`.
create extension if not exists tasker;
