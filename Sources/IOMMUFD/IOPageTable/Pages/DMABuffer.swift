// Memory that its exporter can take back (dma-buf): a client maps it like a file, but the pages are
// not the client's. Nobody pays for it, it is not pinned by users, and only devices reach it.
//
// When the exporter takes it back, every mapping that was made of it leads nowhere, for good; whether
// new mappings can be made is another question.

internal import Host
internal import Synchronization
internal import SystemPackage
internal import UAPI

/// Whoever maps buffers: it holds the locks that guard the mappings.
protocol DMABufferImporter: AnyObject, Sendable {
  /// Takes `pages` out of every page table. dma_buf_attach_ops::invalidate_mappings
  func invalidate(_ pages: IOPTPages)
}

final class DMABuffer: Sendable {
  private struct Attachment {
    weak var pages: IOPTPages?
    weak var importer: (any DMABufferImporter)?
  }

  private struct State {
    var isRevoked = false
    var attachments: [Attachment] = []
  }

  let length: UInt64
  let memory: OwnedDescriptor
  private let state = Mutex(State())

  /// Zeroed memory; `length` is a multiple of 4 KiB.
  init(length: UInt64) throws(Errno) {
    try FaultInjection.step()
    self.length = length
    memory = OwnedDescriptor(
      owning: try MemoryFile.create(name: "iommufd-sim dma-buf", length: length))
  }

  /// `pages` are of the buffer. Called with the importer's lock held. iommufd: iopt_map_dmabuf()
  /// - Throws: `.operationNotSupportedByDevice` (ENODEV) when it has been taken back.
  func attach(_ pages: IOPTPages, importer: any DMABufferImporter) throws(Errno) {
    let isAttached = state.withLock { state in
      guard !state.isRevoked else { return false }
      state.attachments.removeAll { $0.pages == nil }
      state.attachments.append(Attachment(pages: pages, importer: importer))
      return true
    }
    guard isAttached else { throw .operationNotSupportedByDevice }
  }

  /// Takes the memory back from all who have mapped it, and says whether it can be mapped again.
  /// dma_buf_invalidate_mappings(). Called without locks.
  func invalidateMappings(revoke isRevoked: Bool) {
    let attachments = state.withLock { state in
      state.isRevoked = isRevoked
      return state.attachments
    }
    for attachment in attachments {
      if let pages = attachment.pages { attachment.importer?.invalidate(pages) }
    }
  }
}

extension IOPageTable {
  /// Takes pages out of every domain. Their areas stay.
  /// iommufd: iopt_revoke_notify()
  func empty(of pages: IOPTPages) {
    forEachArea { area in
      if area.pages === pages { unfill(area) }
    }
  }
}
