"""Every promise about faults, each with the test that breaks the real thing.

cache or Redis down or slow
    test_dependencies: a cache that is stopped, cut off or behind a lossy network; a Redis that is
    stopped, and one whose disk is full.
    mesh/test_failures: killed, restarted, not there. contract/test_cache_redis*
LLM provider errors
    test_dependencies: 429, 500, garbage, nothing, silence, a stream that stops or breaks.
    mesh/test_failures, mesh/test_providers, contract/test_llm_providers
an engine replica crashes, leaks, stalls, or gives no audio
    test_dependencies: killed and stopped in mid-sentence.
    contract/test_tts_trouble, mesh/test_engines_that_fail
no engine can speak
    mesh/test_engines_that_fail, contract/test_tts_fallback
a process is killed or stopped
    test_replicas: each service and the gateway, two of each, under turns; it restarts one of each as well.
    contract/test_client_failover: the client's side. mesh/test_command_line, unit/cli/test_supervisor: what
    `voicemesh up` does about it
a log cannot be written
    test_dependencies: standard error of the gateway and of the LLM service is a full disk all the time
a slow network
    test_dependencies: delay, jitter, loss and cuts in front of every service
too much load
    contract/test_gateway*, contract/test_tts_trouble: a full queue
a process is asked to stop
    mesh/test_failures, contract/test_runtime_life; contract/test_gateway_drain: what it cannot wait for
bad input
    mesh/test_bad_input

None of these needs root. A full disk is /dev/full behind standard error, and a limit on the size of files for
Redis (RLIMIT_FSIZE), which fails its dumps as a full disk does: a file system of one's own would need rights
that containers seldom give. Many repetitions under load are `benchmarks.faults`.
"""
