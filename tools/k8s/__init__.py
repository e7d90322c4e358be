"""What is checked of the manifests in k8s/: that they build, fit their schemas and keep the rules.

render       overlays and components, as kubectl builds them
objects      what was built, in a form that is easy to ask
rules        what must be true of it, a name for each rule
mutations    for each rule, changes that it must find
schemas      of Kubernetes; `operators` of what is added to it
settings_env the files `settings.env`, and what the code says of each setting
environments what a process would read, given to its own settings
"""
