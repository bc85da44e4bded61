"""Run folders of every released format, packed, and what packs them."""
