//! The Arrow C data and stream interfaces for columns of 8-byte numbers without nulls: structs and
//! their callbacks, as <https://arrow.apache.org/docs/format/CDataInterface.html> and
//! <https://arrow.apache.org/docs/format/CStreamInterface.html> define them.
#![expect(unsafe_code, reason = "the interfaces consist of C structs with pointers and callbacks")]

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    mem, ptr,
    sync::Arc,
};

use pyo3::{prelude::*, types::PyCapsule};

const SCHEMA_NAME: &CStr = c"arrow_schema";
const ARRAY_NAME: &CStr = c"arrow_array";
const STREAM_NAME: &CStr = c"arrow_array_stream";
const STRUCT_FORMAT: &CStr = c"+s";

/// Numbers of a column. All have 8 bytes.
#[derive(Clone, Debug)]
pub(crate) enum Numbers {
    /// Signed integers.
    Integers(Arc<Vec<i64>>),
    /// Floats.
    Floats(Arc<Vec<f64>>),
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    name: &'static CStr,
    format: &'static CStr,
    numbers: Numbers,
}

/// `struct ArrowSchema`.
#[repr(C)]
struct ArrowSchema {
    format: *const c_char,
    name: *const c_char,
    metadata: *const c_char,
    flags: i64,
    n_children: i64,
    children: *mut *mut ArrowSchema,
    dictionary: *mut ArrowSchema,
    release: Option<unsafe extern "C" fn(*mut ArrowSchema)>,
    private_data: *mut c_void,
}

/// `struct ArrowArray`.
#[repr(C)]
struct ArrowArray {
    length: i64,
    null_count: i64,
    offset: i64,
    n_buffers: i64,
    n_children: i64,
    buffers: *mut *const c_void,
    children: *mut *mut ArrowArray,
    dictionary: *mut ArrowArray,
    release: Option<unsafe extern "C" fn(*mut ArrowArray)>,
    private_data: *mut c_void,
}

/// `struct ArrowArrayStream`.
#[repr(C)]
struct ArrowArrayStream {
    get_schema: unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowSchema) -> c_int,
    get_next: unsafe extern "C" fn(*mut ArrowArrayStream, *mut ArrowArray) -> c_int,
    get_last_error: unsafe extern "C" fn(*mut ArrowArrayStream) -> *const c_char,
    release: Option<unsafe extern "C" fn(*mut ArrowArrayStream)>,
    private_data: *mut c_void,
}

/// Structs that another one owns. Those that a consumer has moved out are empty.
struct Children<T>(Vec<*mut T>);

/// Memory that an array owns: the list of its buffers, its numbers, and its children.
struct ArrayOwner {
    buffers: [*const c_void; 2],
    _numbers: Option<Numbers>,
    _children: Children<ArrowArray>,
}

/// Table that a stream owns. It is one batch.
struct StreamOwner {
    fields: Vec<Field>,
    is_read: bool,
}

// SAFETY: the pointers are to constants and to its own boxes, and no thread is preferred.
unsafe impl Send for ArrowSchema {}
// SAFETY: the pointers are to immutable memory that the array itself owns.
unsafe impl Send for ArrowArray {}
// SAFETY: the table belongs to the stream alone, and its numbers are immutable.
unsafe impl Send for ArrowArrayStream {}

/// Returns the type of a column.
pub(crate) fn schema<'py>(py: Python<'py>, numbers: &Numbers) -> PyResult<Bound<'py, PyCapsule>> {
    let schema = ArrowSchema::new(c"", numbers.format(), Vec::new());
    PyCapsule::new_with_value(py, schema, SCHEMA_NAME)
}

/// Returns a column, which shares its memory.
pub(crate) fn array<'py>(py: Python<'py>, numbers: &Numbers) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, ArrowArray::of_numbers(numbers), ARRAY_NAME)
}

/// Returns the type of a table.
pub(crate) fn table_schema<'py>(py: Python<'py>, fields: &[Field]) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, ArrowSchema::of_table(fields), SCHEMA_NAME)
}

/// Returns a table, which shares its memory.
pub(crate) fn table_stream(py: Python<'_>, fields: Vec<Field>) -> PyResult<Bound<'_, PyCapsule>> {
    let owner = Box::new(StreamOwner { fields, is_read: false });
    let stream = ArrowArrayStream {
        get_schema,
        get_next,
        get_last_error,
        release: Some(release_stream),
        private_data: Box::into_raw(owner).cast(),
    };
    PyCapsule::new_with_value(py, stream, STREAM_NAME)
}

impl Numbers {
    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Integers(integers) => integers.len(),
            Self::Floats(floats) => floats.len(),
        }
    }

    fn format(&self) -> &'static CStr {
        match self {
            Self::Integers(_) => c"l",
            Self::Floats(_) => c"g",
        }
    }
}

impl Field {
    /// Returns a column of numbers.
    pub(crate) fn new(name: &'static CStr, numbers: &Numbers) -> Self {
        Self { name, format: numbers.format(), numbers: numbers.clone() }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Returns a column of times in microseconds since the Unix epoch.
    pub(crate) fn times(name: &'static CStr, times_us: &Numbers) -> Self {
        Self { format: c"tsu:UTC", ..Self::new(name, times_us) }
    }
}

impl<T> Children<T> {
    fn new(children: Vec<T>) -> Self {
        Self(children.into_iter().map(|child| Box::into_raw(Box::new(child))).collect())
    }
}

impl<T> Drop for Children<T> {
    fn drop(&mut self) {
        for child in self.0.drain(..) {
            // SAFETY: `new` leaked the box. Consumers move structs out of it, and never free it.
            drop(unsafe { Box::from_raw(child) });
        }
    }
}

impl ArrowSchema {
    fn new(name: &'static CStr, format: &'static CStr, children: Vec<Self>) -> Self {
        let mut children = Children::new(children);
        Self {
            format: format.as_ptr(),
            name: name.as_ptr(),
            metadata: ptr::null(),
            flags: 0,
            n_children: children.0.len() as i64,
            children: children.0.as_mut_ptr(),
            dictionary: ptr::null_mut(),
            release: Some(release_schema),
            private_data: Box::into_raw(Box::new(children)).cast(),
        }
    }

    fn of_table(fields: &[Field]) -> Self {
        let children = fields.iter().map(|field| Self::new(field.name, field.format, Vec::new()));
        Self::new(c"", STRUCT_FORMAT, children.collect())
    }
}

impl ArrowArray {
    fn of_numbers(numbers: &Numbers) -> Self {
        let data = match numbers {
            Numbers::Integers(integers) => integers.as_ptr().cast(),
            Numbers::Floats(floats) => floats.as_ptr().cast(),
        };
        Self::new(numbers.len(), data, Some(numbers.clone()), Vec::new())
    }

    fn of_table(fields: &[Field]) -> Self {
        // Rows that a column lacks would be read beyond its end.
        let length = fields.iter().map(Field::len).min().unwrap_or(0);
        let children = fields.iter().map(|field| Self::of_numbers(&field.numbers));
        Self::new(length, ptr::null(), None, children.collect())
    }

    /// An array that shows a consumer that the stream has ended.
    fn released() -> Self {
        let mut array = Self::new(0, ptr::null(), None, Vec::new());
        array.free();
        array
    }

    fn new(length: usize, data: *const c_void, numbers: Option<Numbers>, children: Vec<Self>) -> Self {
        // The first buffer would say which rows are null. A struct has no other.
        let n_buffers = if numbers.is_some() { 2 } else { 1 };
        let n_children = children.len() as i64;
        let mut children = Children::new(children);
        let child_list = children.0.as_mut_ptr();
        let owner = ArrayOwner { buffers: [ptr::null(), data], _numbers: numbers, _children: children };
        let owner = Box::into_raw(Box::new(owner));
        Self {
            length: length as i64,
            null_count: 0,
            offset: 0,
            n_buffers,
            n_children,
            // SAFETY: the owner was allocated above, and lives until `release_array`.
            buffers: unsafe { (&raw mut (*owner).buffers).cast() },
            children: child_list,
            dictionary: ptr::null_mut(),
            release: Some(release_array),
            private_data: owner.cast(),
        }
    }

    fn free(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the struct is complete, and has not been released.
            unsafe { release(self) };
        }
    }
}

// Each `drop` frees a struct that no consumer has taken: a consumer that takes a struct sets `release` to
// null.
impl Drop for ArrowSchema {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the struct is complete, and has not been released.
            unsafe { release(self) };
        }
    }
}

impl Drop for ArrowArray {
    fn drop(&mut self) {
        self.free();
    }
}

impl Drop for ArrowArrayStream {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the struct is complete, and has not been released.
            unsafe { release(self) };
        }
    }
}

/// # Safety
///
/// `schema` comes from this module and has not been released.
unsafe extern "C" fn release_schema(schema: *mut ArrowSchema) {
    // SAFETY: by the contract of the function, `private_data` is the box that `new` leaked.
    unsafe {
        drop(Box::from_raw((*schema).private_data.cast::<Children<ArrowSchema>>()));
        (*schema).release = None;
    }
}

/// # Safety
///
/// `array` comes from this module and has not been released.
unsafe extern "C" fn release_array(array: *mut ArrowArray) {
    // SAFETY: by the contract of the function, `private_data` is the box that `new` leaked.
    unsafe {
        drop(Box::from_raw((*array).private_data.cast::<ArrayOwner>()));
        (*array).release = None;
    }
}

/// # Safety
///
/// `stream` comes from this module and has not been released, and `out` can be written.
unsafe extern "C" fn get_schema(stream: *mut ArrowArrayStream, out: *mut ArrowSchema) -> c_int {
    // SAFETY: by the contract of the function. What `out` contains is not a struct yet.
    unsafe {
        let owner = &*(*stream).private_data.cast::<StreamOwner>();
        ptr::write(out, ArrowSchema::of_table(&owner.fields));
    }
    0
}

/// # Safety
///
/// `stream` comes from this module and has not been released, and `out` can be written.
unsafe extern "C" fn get_next(stream: *mut ArrowArrayStream, out: *mut ArrowArray) -> c_int {
    // SAFETY: by the contract of the function. What `out` contains is not a struct yet.
    unsafe {
        let owner = &mut *(*stream).private_data.cast::<StreamOwner>();
        let is_read = mem::replace(&mut owner.is_read, true);
        let next = if is_read { ArrowArray::released() } else { ArrowArray::of_table(&owner.fields) };
        ptr::write(out, next);
    }
    0
}

/// # Safety
///
/// No call fails, so that nothing is read.
unsafe extern "C" fn get_last_error(_: *mut ArrowArrayStream) -> *const c_char {
    ptr::null()
}

/// # Safety
///
/// `stream` comes from this module and has not been released.
unsafe extern "C" fn release_stream(stream: *mut ArrowArrayStream) {
    // SAFETY: by the contract of the function, `private_data` is the box that `table_stream` leaked.
    unsafe {
        drop(Box::from_raw((*stream).private_data.cast::<StreamOwner>()));
        (*stream).release = None;
    }
}
