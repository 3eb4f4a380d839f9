from newsletters.admin import content, outgoing, promise, publication, readers

__all__ = ["content", "outgoing", "promise", "publication", "readers"]
