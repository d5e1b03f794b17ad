"""Prompts and agents: a handler, and one file per provider of language models.

    task ─→ PromptHandler ─→ Client (loop thread) ─→ Provider.turn ─→ model
     ↑            ↑                                       │
     └─ result ───┴──── chunks, requests for leave ───────┘

The handler runs on the thread of its task. It asks the client, which lives as long as the handler
is used, for one turn, and serves it: chunks become OUTPUT events, requests for leave are decided.
"""

from ttasks.handlers.prompt.factories import (
    make_copilot_agent_handler,
    make_copilot_prompt_handler,
    make_openai_prompt_handler,
)

__all__ = [
    "make_copilot_agent_handler",
    "make_copilot_prompt_handler",
    "make_openai_prompt_handler",
]
