"""The server under faults, in virtual time: a seeded crowd on a bad network, and a model that knows what must be seen.

    python -m tests.simulation --minutes 10

Reading order: `network` (one connection, and what happens to its bytes), `log` (a room's one order of events), `model`
(who is where, and which events may come), `people` (who is held to the protocol's promises), `crowd` (who breaks
them), `view` (what one user has seen, beside what happened), `world` (a step: an act, then everything is checked),
`invariants` (what is checked), `single` (a run of one server, from the first login to the last leave). Then, for
several servers: `engine`, `harm` (what goes wrong), `ledger` (what was said, and what was shown of it), `visitor`,
`town` (a step), `several` (a run). `kinds` says which seed is what, `run` runs one.

- Everything that is random comes from one `random.Random(seed)`; trio's scheduler is seeded, too (`scheduler`). So a
  seed is a run, frame for frame, and its transcript has a hash.
- One act at a time: bytes reach the server, it settles, everybody who reads takes what came, and the model is asked.
  So the server's order of events is known without a look into it.
- Of an act of somebody whose connection is sound the model knows what comes of it: that event is the next in its
  room's log, at once. Somebody who reads slowly, floods or has vanished may be cut at any moment: of those the model
  knows what may come, and until when it must have come. Such people stay in the rooms where a steward sits, whose
  connection is perfect: what the steward sees is the log, and everybody else must see the same.
- A server whose rooms and names are an engine's (`Kind.SHARED`) is held to the same model by the same crowd. What the
  model knows more of it is that what was said outlives its room, as with a store.
- Where servers are several, what was asked on one takes its time to the others, and nobody can know all while the
  engine is away: what was said is held to the order that the engine gave it, and who is there to what can be known.
"""
