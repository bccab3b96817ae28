"""What do our programs tell about their work? Lines of logs, spans of traces, and who may read metrics."""
