"""OpenAI's Responses: items in, items out, and a stream whose events are numbered."""
