from ttasks.backends.call import bound


class ProcessBackend:
    kills = True
    frees_worker = False

    def __init__(self, *, capture_locals):
        from ttasks.handlers.processes import ProcessWorkers

        self._w = ProcessWorkers(capture_locals=capture_locals)

    def start(self, job):
        try:
            value = job.variables.run(lambda: self._w.run(job.context, *bound(job.context)))
        except BaseException as error:
            job.end(None, error)
        else:
            job.end(value, None)

    def close(self):
        pass
