// SPDX-License-Identifier: GPL-3.0-or-later
// A batch of shots as a job of Flamenco 3: for each shot reconstruct -> bake -> render, and a summary at the end.
// Put this file into the folder "scripts" beside the Flamenco Manager.
//
// The Manager's variables {facet4d} and {facet4dPython} name a checkout of Facet4D and the Python with its packages, as
// each platform's workers see them; {blender} is Flamenco's own. Paths in the settings are mapped by two-way variables.

const JOB_TYPE = {
    label: "Facet4D Batch",
    description: "Reconstruct shots as 4D Gaussian clouds, bake them into .blend files, and render these.",
    settings: [
        { key: "shots", type: "string", required: true, subtype: "file_path",
          description: "The table of shots (.csv, .jsonl or .parquet)" },
        { key: "shotCount", type: "int32", required: true, default: 1, description: "How many shots the table has" },
        { key: "outDir", type: "string", required: true, subtype: "dir_path",
          description: "The folder for clouds, .blend files and frames" },
        { key: "format", type: "string", required: true, default: "none", choices: ["none", "ply", "usd"],
          description: "What is baked besides .blend files: a PLY for each frame, or USD" },
        { key: "fps", type: "float", required: true, default: 24, description: "Frames a second" },
        { key: "lastFrame", type: "int32", required: true, default: 24,
          description: "The last frame to render; shorter shots end earlier. 0 renders nothing" },
        { key: "chunkSize", type: "int32", required: true, default: 8, description: "How many frames one task renders" },
        { key: "engine", type: "string", required: true, default: "CYCLES",
          choices: ["CYCLES", "BLENDER_EEVEE", "BLENDER_EEVEE_NEXT"], description: "The engine that renders" },
        { key: "gpuTaskType", type: "string", required: true, default: "misc", visible: "submission",
          description: "The task type of reconstructing; give workers with a GPU one of their own, such as gpu" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const summary = task(job, "summary", "misc", ["summary", settings.shots, "--out", settings.outDir]);
    for (let shot = 0; shot < settings.shotCount; shot++) {
        const name = "shot-" + shot;
        const which = [settings.shots, "--out", settings.outDir, "--only", "" + shot];
        const blender = ["--blender", "{blender}"];
        const reconstruct = task(job, name + "-reconstruct", settings.gpuTaskType,
            ["reconstruct"].concat(which, ["--retry-failed"]));
        const bake = task(job, name + "-bake", "blender",
            ["bake"].concat(which, ["--format", settings.format, "--fps", "" + settings.fps], blender));
        bake.addDependency(reconstruct);
        summary.addDependency(reconstruct);
        job.addTask(reconstruct);
        job.addTask(bake);
        for (let first = 1; first <= settings.lastFrame; first += settings.chunkSize) {
            const last = Math.min(first + settings.chunkSize - 1, settings.lastFrame);
            const render = task(job, name + "-render-" + first + "-" + last, "blender",
                ["render"].concat(which, ["--frames", first + "-" + last, "--engine", settings.engine], blender));
            render.addDependency(bake);
            job.addTask(render);
        }
    }
    job.addTask(summary);
}

function task(job, name, type, args) {
    const made = author.Task(name, type);
    made.addCommand(author.Command("exec", { exe: "{facet4dPython}", args: ["{facet4d}/farm/task.py"].concat(args) }));
    return made;
}
