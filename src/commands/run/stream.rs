//! Images through a network, batch by batch: only one batch of pictures is in memory, and what is known of a
//! batch is printed before the next one is read. Everything goes at once where layers combine images.

use super::{Extent, Found, Kept, Printer, Reading, Written};
use crate::support::entries::Entries;
use crate::support::output;
use skimjit_program::progress;
use skimjit_program::progress::ProgressBar;
use skimjit::{Engine, Error, Result, Session};
use skimjit_models::{Shape, Tensor};
use skimjit_runtime::Port;
use std::io::{self, IsTerminal};
use std::path::Path;

/// Images on their way.
pub struct Stream<'a> {
    engine: &'a Engine,
    session: &'a mut Session,
    reading: &'a Reading<'a>,
    kept: Kept<'a>,
    /// Images that no batch has yet: their elements, and their names; without name: a picture that could not be
    /// read, whose row is kept.
    elements: Vec<f32>,
    names: Vec<Option<String>>,
    maps: Vec<Map>,
    /// For a report at the end.
    found: Vec<Found>,
}

/// What is said of an output that is no list of classes: over all images.
struct Map {
    port: usize,
    shape: Option<Shape>,
    images: u32,
    extent: Extent,
}

/// What is left to be told.
pub struct Results {
    pub found: Vec<Found>,
    pub maps: Vec<(String, String, Extent)>,
    pub written: Vec<Written>,
}

/// A bar, unless results come to the same terminal.
pub fn bar(entries: &Entries, printer: &Printer<'_>) -> ProgressBar {
    let prints = io::stdout().is_terminal() && !printer.is_silent();
    match entries.are_known() && !prints {
        true => progress::bar("files", entries.known().len() as u64),
        false => ProgressBar::hidden(),
    }
}

/// Says when results are no numbers: scores and classes of them mean nothing.
pub fn warn_of_infinities(ports: &[Port], outputs: &[Tensor], names: &[Option<String>]) {
    for (port, output) in ports.iter().zip(outputs) {
        let Some(at) = output
            .data()
            .iter()
            .position(|element| !element.is_finite())
        else {
            continue;
        };
        let image = match port.per_image {
            true => names.get(at / port.elems.max(1)).and_then(Option::as_deref),
            false => None,
        };
        output::warn(format!(
            "{}output \"{}\" is not finite ({} at element {at}): sums were too large for a float on the way; \
             skimjit verify names the first layer",
            image.map_or_else(String::new, |name| format!("{name}: ")),
            port.name,
            output.data()[at]
        ));
    }
}

impl<'a> Stream<'a> {
    pub fn new(
        engine: &'a Engine,
        session: &'a mut Session,
        reading: &'a Reading<'a>,
        kept: Kept<'a>,
    ) -> Self {
        let ports = reading.own(engine).iter().enumerate();
        let maps = ports.filter(|(_, port)| reading.is_map(port));
        let maps = maps.map(|(port, _)| Map {
            port,
            shape: None,
            images: 0,
            extent: Extent::new(),
        });
        Self {
            maps: maps.collect(),
            engine,
            session,
            reading,
            kept,
            elements: Vec::new(),
            names: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Elements of an image.
    fn row(&self) -> usize {
        let plan = self.engine.plan();
        plan.inputs[0].shape.count() / plan.batch
    }

    /// Every input must have its row in what is written, or rows and inputs do not go together.
    pub fn needs_rows(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Adds the images of a file, and runs what is complete.
    pub fn add(
        &mut self,
        names: Vec<String>,
        elements: Vec<f32>,
        printer: &mut Printer<'_>,
    ) -> Result<()> {
        self.names.extend(names.into_iter().map(Some));
        self.elements.extend(elements);
        self.run_full_batches(printer)
    }

    /// Adds a picture that could not be read: its row becomes NaN. Returns what was wrong with it; where no row
    /// can be kept for it, it is an error for all.
    pub fn add_bad(
        &mut self,
        path: &Path,
        error: Error,
        printer: &mut Printer<'_>,
    ) -> Result<Error> {
        let plan = self.engine.plan();
        let is_row = !crate::support::args::is_npy(path) && self.kept.are_per_image(&plan.outputs);
        if !is_row || plan.coupled {
            return Err(error);
        }
        self.names.push(None);
        self.elements.resize(self.elements.len() + self.row(), 0.0);
        self.run_full_batches(printer)?;
        Ok(error)
    }

    fn run_full_batches(&mut self, printer: &mut Printer<'_>) -> Result<()> {
        let plan = self.engine.plan();
        while !plan.coupled && self.names.len() >= plan.batch {
            self.run_waiting(plan.batch, printer)?;
        }
        Ok(())
    }

    /// Runs what is left.
    pub fn finish(&mut self, printer: &mut Printer<'_>) -> Result<()> {
        match self.names.len() {
            0 => Ok(()),
            left => self.run_waiting(left, printer),
        }
    }

    fn run_waiting(&mut self, images: usize, printer: &mut Printer<'_>) -> Result<()> {
        let rest = self.elements.split_off(images * self.row());
        let elements = std::mem::replace(&mut self.elements, rest);
        let rest = self.names.split_off(images);
        let names = std::mem::replace(&mut self.names, rest);
        let port = &self.engine.plan().inputs[0].shape;
        let shape = Shape::new(port.with_batch(images as u32).dims())?;
        self.run(&[Tensor::new(shape, elements)], names, printer)
    }

    /// Runs images and tells what is known of them.
    pub fn run(
        &mut self,
        inputs: &[Tensor],
        names: Vec<Option<String>>,
        printer: &mut Printer<'_>,
    ) -> Result<()> {
        let mut outputs = self.engine.run(self.session, inputs)?;
        warn_of_infinities(&self.engine.plan().outputs, &outputs, &names);
        self.blank(&mut outputs, &names);
        self.kept.add(&outputs);
        for map in &mut self.maps {
            let output = &outputs[map.port];
            map.extent.add(output.data());
            map.images += output.shape().dim(0);
            map.shape.get_or_insert_with(|| output.shape().clone());
        }
        let found = self.reading.gather(self.engine, &outputs, &names);
        printer.print(&found)?;
        if printer.is_silent() {
            self.found.extend(found);
        }
        Ok(())
    }

    /// Rows of images that are none.
    fn blank(&self, outputs: &mut [Tensor], names: &[Option<String>]) {
        let ports = self.engine.plan().outputs.iter().zip(outputs);
        for (port, output) in ports.filter(|(port, _)| port.per_image) {
            let rows = output.data_mut().chunks_exact_mut(port.elems).zip(names);
            let blank = rows.filter(|(_, name)| name.is_none());
            blank.for_each(|(row, _)| row.fill(f32::NAN));
        }
    }

    /// Writes what is kept, and returns what is left to be told.
    pub fn into_results(self, printer: &mut Printer<'_>) -> Result<Results> {
        let ports = &self.engine.plan().outputs;
        let written = self.kept.write(ports, printer.out)?;
        let map = |map: Map| {
            let shape = map.shape?;
            let shape = if shape.rank() > 0 {
                shape.with_batch(map.images)
            } else {
                shape
            };
            Some((ports[map.port].name.clone(), shape.to_string(), map.extent))
        };
        Ok(Results {
            found: self.found,
            maps: self.maps.into_iter().filter_map(map).collect(),
            written,
        })
    }
}
