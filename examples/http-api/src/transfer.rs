//! Files in and out, in bounded memory: an import reads from the request, and an export writes to the
//! response.

use std::io::{self, Write};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use datapool_store::{ExportOptions, ImportOptions, ImportReport, Pool};
use futures_util::stream;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::answer::{Failure, Outcome};
use crate::blocking;
use crate::request::{Encoding, FILE, Fields, Listing, Named};

/// The longest time that a transfer may stall. A client that disappeared must not keep a thread.
const PATIENCE: Duration = Duration::from_mins(1);
/// The number of chunks that may wait for the client of a download, or for an import. An export writes 64 KiB
/// at a time.
const WAITING_CHUNKS: usize = 4;
/// The largest file that is sent as text, because it is kept in memory as a whole. A file in a multipart form
/// has no limit.
const TEXT_MAX_BYTES: usize = 64 << 20;

/// Each transfer occupies one of the runtime's 512 blocking threads. This limit leaves enough for all other
/// calls; further transfers wait for their turn.
static TRANSFERS: Semaphore = Semaphore::const_new(128);

/// Returns the records that match the listing's parameters, as a CSV file.
pub(crate) async fn download(Named(pool): Named, query: Listing) -> Outcome<Response> {
    let options = ExportOptions::new().filter(query.records()?.into_filter());
    let name = format!("attachment; filename=\"data-pool-{}.csv\"", pool.id());
    let turn = TRANSFERS.acquire().await.map_err(Failure::internal)?;
    let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
    let export = spawn_blocking(move || pool.export_csv(Download(sender), &options));
    // The result of the export ends the body. A failure aborts the response, so that it does not look
    // complete.
    let body = stream::try_unfold((chunks, export, turn), |(mut chunks, export, turn)| async move {
        match chunks.recv().await {
            Some(chunk) => Ok(Some((chunk, (chunks, export, turn)))),
            None => export.await?.map(|_| None).map_err(BoxError::from),
        }
    });
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Imports the file of a multipart form, or one that is sent as a text field.
pub(crate) async fn import(pool: Pool, mut request: Request) -> Outcome<ImportReport> {
    let _turn = TRANSFERS.acquire().await.map_err(Failure::internal)?;
    if Encoding::of(request.headers())? == Encoding::Multipart {
        let form = Multipart::from_request(request, &()).await;
        return import_form(pool, form.map_err(|error| malformed(error.body_text()))?).await;
    }
    // The route has no limit, because a multipart file needs none.
    DefaultBodyLimit::max(TEXT_MAX_BYTES).apply(&mut request);
    let mut fields = Fields::from_request(request, &()).await?;
    let file = fields.file();
    fields.check()?;
    blocking(move || Ok(pool.import_csv(file.unwrap_or_default().as_bytes(), &ImportOptions::new())?)).await
}

async fn import_form(pool: Pool, form: Multipart) -> Outcome<ImportReport> {
    let (sender, chunks) = mpsc::channel(WAITING_CHUNKS);
    let file = stream::try_unfold(chunks, async |mut chunks: mpsc::Receiver<Option<Bytes>>| {
        let next = chunks.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        io::Result::Ok(next.map(|chunk| (chunk, chunks)))
    });
    let mut file = SyncIoBridge::new(StreamReader::new(Box::pin(file)));
    let import = spawn_blocking(move || pool.import_csv(&mut file, &ImportOptions::new()));
    let (sent, imported) = (send_file(form, sender).await, import.await.map_err(Failure::internal)?);
    sent?;
    Ok(imported?)
}

/// Sends the form's file to an import, then `None` if the whole form is valid. Without that, the import adds
/// nothing. Always reads to the end, because many clients do not read an answer before that, and lose an
/// answer that comes with a reset connection.
async fn send_file(mut form: Multipart, import: mpsc::Sender<Option<Bytes>>) -> Outcome<()> {
    let mut files = 0;
    while let Some(mut field) = part_of(form.next_field()).await? {
        let is_file = field.name() == Some(FILE);
        files += usize::from(is_file);
        while let Some(chunk) = part_of(field.chunk()).await? {
            if is_file {
                let _ = import.send(Some(chunk)).await;
            }
        }
    }
    match files {
        0 => Err(Failure::of(FILE, "The deduped data file field is required.")),
        1 => import.send(None).await.or(Ok(())),
        _ => Err(Failure::of(
            FILE,
            format_args!("The deduped data file field must be given once, not {files} times."),
        )),
    }
}

/// Returns the next part that the client sends. Fails if the client stalls.
async fn part_of<T>(part: impl Future<Output = Result<T, MultipartError>>) -> Outcome<T> {
    timeout(PATIENCE, part).await.map_err(|_| stood_still())?.map_err(|error| malformed(error.body_text()))
}

fn malformed(reason: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, format_args!("the form is malformed: {reason}"))
}

fn stood_still() -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, format_args!("nothing came for {PATIENCE:?}"))
}

/// The writer of a download. It fails if the client is gone or stalls.
struct Download(mpsc::Sender<Bytes>);

impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.send_timeout(Bytes::copy_from_slice(bytes), PATIENCE);
        Handle::current().block_on(sent).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
