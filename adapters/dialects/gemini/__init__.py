"""Google's Gemini API, as Google's own servers and its cloud speak it."""
